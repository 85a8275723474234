"""/etc/hosts and /etc/resolv.conf of a pod: what goes into them. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.pb.k8s import core_v1_pb2 as core


@dataclass(frozen=True, slots=True)
class ClusterDns:
    """Where pods resolve names. host_resolv_conf: this machine's own file, for dnsPolicy Default."""

    servers: tuple[str, ...]
    domain: str
    host_resolv_conf: str


def hostname_of(pod: core.Pod, node_name: str) -> str:
    """At most 63 characters, as the kernel takes them."""
    if pod.spec.hostNetwork:
        return node_name
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def resolv_conf(pod: core.Pod, dns: ClusterDns) -> str:
    servers, searches, options = _base(pod, dns)
    config = pod.spec.dnsConfig
    servers = _unique([*servers, *config.nameservers])[:3]
    searches = _unique([*searches, *config.searches])
    chosen = dict(option.partition(":")[::2] for option in options)
    for option in config.options:
        chosen[option.name] = option.value
    lines = [f"nameserver {server}" for server in servers]
    if searches:
        lines.insert(0, f"search {' '.join(searches)}")
    if chosen:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in chosen.items()))
    return "\n".join(lines) + "\n"


def _base(pod: core.Pod, dns: ClusterDns) -> tuple[list[str], list[str], list[str]]:
    policy = pod.spec.dnsPolicy or "ClusterFirst"
    if policy == "None":
        return [], [], []
    if policy == "Default" or (policy == "ClusterFirst" and pod.spec.hostNetwork) or not dns.servers:
        return _parse(dns.host_resolv_conf)
    _, host_searches, _ = _parse(dns.host_resolv_conf)
    namespace, domain = pod.metadata.namespace, dns.domain
    searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *host_searches]
    return list(dns.servers), searches, ["ndots:5"]


def _parse(text: str) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return servers, searches, options


def etc_hosts(pod: core.Pod, *, ip: str, hostname: str, domain: str, host_file: str) -> str:
    """host_file: this machine's own, for pods on its network."""
    if pod.spec.hostNetwork:
        lines = ["# Managed by the kubelet (host network).", host_file.rstrip("\n")]
    else:
        name = hostname
        if pod.spec.subdomain:
            full = f"{hostname}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"
            name = f"{full}\t{hostname}"
        lines = [
            "# Managed by the kubelet.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
            f"{ip}\t{name}",
        ]
    if pod.spec.hostAliases:
        lines.append("")
        lines.append("# Entries added by HostAliases.")
        lines += ["\t".join([alias.ip, *alias.hostnames]) for alias in pod.spec.hostAliases]
    return "\n".join(lines) + "\n"


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))
