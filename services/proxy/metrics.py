"""The proxy's metrics: Kubernetes' names for the rules, CoreDNS's for DNS."""

from prometheus_client import Counter, Gauge, Histogram

SYNC_DURATION = Histogram(
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "Seconds that one update of the rules took.",
    buckets=[0.001 * 2**i for i in range(15)],
)
PROGRAMMING_DURATION = Histogram(
    "kubeproxy_network_programming_duration_seconds",
    "Seconds from the change of a pod or Service to its being in the rules.",
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300],
)
LAST_SYNC = Gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the rules were last updated.")
LAST_QUEUED = Gauge(
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When an update of the rules was last asked for."
)
ENDPOINT_CHANGES = Counter(
    "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices that the proxy has seen."
)
SERVICE_CHANGES = Counter(
    "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services that the proxy has seen."
)
ENDPOINTS_PENDING = Gauge(
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Services whose changes are not in the rules yet."
)
SYNC_FAILURES = Counter("tillerman_proxy_sync_failures_total", "Updates of the rules that failed and were retried.")
PORTS = Gauge("tillerman_proxy_service_ports", "Service ports in the rules.")
ENDPOINTS = Gauge("tillerman_proxy_endpoints", "Backends in the rules, counted once per Service port.")
CONNECTIONS = Gauge(
    "tillerman_proxy_userspace_connections", "Connections that the userspace proxy relays.", ["protocol"]
)

DNS_REQUESTS = Counter("coredns_dns_requests_total", "DNS queries.", ["server", "zone", "proto", "family", "type"])
DNS_RESPONSES = Counter("coredns_dns_responses_total", "DNS responses by code.", ["server", "zone", "rcode"])
DNS_DURATION = Histogram(
    "coredns_dns_request_duration_seconds",
    "Seconds from query to answer.",
    ["server", "zone"],
    buckets=[0.00025 * 2**i for i in range(16)],
)
DNS_CACHE_HITS = Counter("coredns_cache_hits_total", "Answers from the cache.", ["server", "zone"])
DNS_CACHE_MISSES = Counter("coredns_cache_misses_total", "Queries whose answer was not cached.", ["server", "zone"])
DNS_FORWARD_DURATION = Histogram(
    "coredns_proxy_request_duration_seconds", "Seconds that an upstream resolver took.", ["to"]
)
