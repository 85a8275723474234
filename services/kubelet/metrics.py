"""The kubelet's metrics, under Kubernetes' names."""

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_START = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)

RUNNING_PODS = Gauge("kubelet_running_pods", "Pods that have a running sandbox")
RUNNING_CONTAINERS = Gauge("kubelet_running_containers", "Containers by state", ["container_state"])
POD_START = Histogram(
    "kubelet_pod_start_duration_seconds", "From seeing a pod for the first time to it running", buckets=_START
)
POD_WORKER = Histogram(
    "kubelet_pod_worker_duration_seconds", "One round of a pod worker", ["operation_type"], buckets=_FAST
)
POD_WORKER_START = Histogram(
    "kubelet_pod_worker_start_duration_seconds", "From seeing a pod to its worker starting", buckets=_FAST
)
RUNTIME_OPERATIONS = Counter("kubelet_runtime_operations_total", "Runtime operations by type", ["operation_type"])
RUNTIME_ERRORS = Counter("kubelet_runtime_operations_errors_total", "Failed runtime operations", ["operation_type"])
RUNTIME_DURATION = Histogram(
    "kubelet_runtime_operations_duration_seconds", "Duration of runtime operations", ["operation_type"], buckets=_FAST
)
STARTED_CONTAINERS = Counter("kubelet_started_containers_total", "Containers started", ["container_type"])
STARTED_CONTAINERS_ERRORS = Counter(
    "kubelet_started_containers_errors_total", "Containers that could not be started", ["container_type", "code"]
)
STARTED_PODS = Counter("kubelet_started_pods_total", "Sandboxes started")
STARTED_PODS_ERRORS = Counter("kubelet_started_pods_errors_total", "Sandboxes that could not be started")
RESTARTED_CONTAINERS = Counter("kubelet_restarted_containers_total", "Containers started again")
CONTAINER_CPU = Counter(
    "container_cpu_usage_seconds_total", "CPU time of running containers", ["container", "pod", "namespace"]
)
CONTAINER_MEMORY = Gauge(
    "container_memory_working_set_bytes", "Working set of running containers", ["container", "pod", "namespace"]
)
PROBES = Counter(
    "prober_probe_total", "Probes by type and result", ["probe_type", "result", "container", "pod", "namespace"]
)
NODE_NAME = Gauge("kubelet_node_name", "The node's name; the value is always 1", ["node"])
DESIRED_PODS = Gauge("kubelet_desired_pods", "Pods that the API server wants on this node")
HTTP_STREAMS = Gauge("kubelet_server_streams", "Open log, exec, attach and port-forward streams", ["type"])
STATUS_UPDATES = Counter("kubelet_pod_status_updates_total", "Pod statuses sent to the API server", ["result"])
