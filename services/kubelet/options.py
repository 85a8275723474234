"""The kubelet's options."""

import socket
from dataclasses import dataclass
from pathlib import Path

from tillerman.service.options import OptionsError, ServiceOptions, option

RUNTIMES = ("docker", "process", "hollow")


@dataclass(kw_only=True)
class KubeletOptions(ServiceOptions):
    node_name: str = option("", help="Name of the Node object; default: this machine's host name.")
    node_ip: str = option("127.0.0.1", help="Address under which the API server and others reach this node.")
    runtime: str = option("docker", help="docker, process (plain child processes) or hollow (no containers at all).")
    root_dir: Path = option(Path("/var/lib/tillerman/kubelet"), help="Where pods' volumes and files are kept.")
    cluster_name: str = option("default", help="Everything this kubelet makes is labelled with it.")
    pod_network: str = option("", help="Docker network of the pods; default: tillerman-<cluster name>.")
    cluster_cidr: str = option("10.244.0.0/16", help="Addresses of all pods of the cluster.")
    pod_cidr: str = option("", help="Addresses of this node's pods; default: what the node's spec.podCIDR says.")
    cluster_dns: list[str] = option([], help="Address of the cluster DNS, for pods' resolv.conf.")
    cluster_domain: str = option("cluster.local", help="Domain of the cluster's services.")
    resolv_conf: Path = option(Path("/etc/resolv.conf"), help="This machine's resolver file, for dnsPolicy Default.")
    node_labels: dict[str, str] = option({}, help="Labels of the Node object: a=1,b=2.")
    register_with_taints: list[str] = option([], help="Taints of the Node object: key=value:Effect.")
    max_pods: int = option(110, help="Pods that this node takes.")
    node_cpus: str = option("", help="CPUs to report as capacity; default: this machine's.")
    node_memory: str = option("", help="Memory to report as capacity; default: this machine's.")
    system_reserved: dict[str, str] = option({}, help="Kept back from pods: cpu=100m,memory=200Mi.")
    node_status_update_frequency: float = option(10.0, help="Seconds between looks at the node's own state.")
    node_status_report_frequency: float = option(300.0, help="Seconds after which an unchanged node status is sent.")
    node_lease_duration_seconds: int = option(40, help="For how long the Lease is good; renewed four times in it.")
    process_image_path: list[str] = option([], help="Directories of images for the process runtime.")
    cleanup: bool = option(False, help="Remove everything this kubelet made outside of processes, and exit.")
    hollow_start_delay: float = option(0.0, help="Seconds that a hollow container takes to start.")
    hollow_stop_delay: float = option(0.0, help="Seconds that a hollow container takes to stop.")

    def check(self) -> None:
        super().check()
        if self.runtime not in RUNTIMES:
            raise OptionsError(f'--runtime: "{self.runtime}" is none of {", ".join(RUNTIMES)}')
        self.node_name = self.node_name or socket.gethostname().lower()
        self.pod_network = self.pod_network or f"tillerman-{self.cluster_name}"
