"""The flags of the controller manager; names and defaults are kube-controller-manager's where one exists."""

from __future__ import annotations

from dataclasses import dataclass, field

from tillerman.service.options import ServiceOptions


@dataclass
class ControllerManagerOptions(ServiceOptions):
    """Durations are seconds."""

    controllers: str = field(
        default="*",
        metadata={"help": "which controllers run: '*' for all, 'name' adds one, '-name' leaves one out"},
    )
    leader_elect: bool = field(default=True, metadata={"help": "run only while holding the leader Lease"})
    leader_elect_identity: str = field(
        default="", metadata={"help": "name written into the Lease; default <host>_<address>:<port>"}
    )
    leader_elect_lease_duration: float = field(default=15.0, metadata={"help": "seconds a Lease is valid"})
    leader_elect_renew_deadline: float = field(default=10.0, metadata={"help": "seconds to renew before giving up"})
    leader_elect_retry_period: float = field(default=2.0, metadata={"help": "seconds between tries"})

    node_monitor_grace_period: float = field(
        default=40.0, metadata={"help": "seconds without a heartbeat before a node is Unknown"}
    )
    node_startup_grace_period: float = field(
        default=60.0, metadata={"help": "seconds a node that never sent a heartbeat may take"}
    )
    node_eviction_rate: float = field(default=0.1, metadata={"help": "nodes per second emptied in a healthy zone"})
    secondary_node_eviction_rate: float = field(
        default=0.01, metadata={"help": "nodes per second emptied in a large zone that is mostly down"}
    )
    unhealthy_zone_threshold: float = field(
        default=0.55, metadata={"help": "fraction of nodes down from which a zone counts as unhealthy"}
    )
    large_cluster_size_threshold: int = field(
        default=50, metadata={"help": "up to this many nodes, an unhealthy zone is not emptied at all"}
    )

    allocate_node_cidrs: bool = field(default=True, metadata={"help": "give each node a podCIDR"})
    cluster_cidr: str = field(default="10.244.0.0/16", metadata={"help": "addresses of all pods"})
    node_cidr_mask_size: int = field(default=24, metadata={"help": "prefix length of one node's podCIDR"})

    terminated_pod_gc_threshold: int = field(
        default=12500, metadata={"help": "terminated pods kept before the oldest are deleted; 0 keeps all"}
    )
    horizontal_pod_autoscaler_sync_period: float = field(default=15.0, metadata={"help": "seconds between decisions"})
    horizontal_pod_autoscaler_downscale_stabilization: float = field(
        default=300.0, metadata={"help": "seconds of recommendations a scale-down looks back over"}
    )
    horizontal_pod_autoscaler_tolerance: float = field(
        default=0.1, metadata={"help": "relative distance from the target that is not acted on"}
    )
    horizontal_pod_autoscaler_cpu_initialization_period: float = field(
        default=300.0, metadata={"help": "seconds after its start in which a pod's CPU may be ignored"}
    )
    horizontal_pod_autoscaler_initial_readiness_delay: float = field(
        default=30.0, metadata={"help": "seconds after its start in which an unready pod counts as starting"}
    )

    root_ca_file: str = field(default="", metadata={"help": "CA certificate published as kube-root-ca.crt"})
    cluster_signing_cert_file: str = field(default="", metadata={"help": "CA certificate that signs CSRs"})
    cluster_signing_key_file: str = field(default="", metadata={"help": "key of the CA that signs CSRs"})
    cluster_signing_duration: float = field(
        default=31536000.0, metadata={"help": "longest validity of a certificate signed here"}
    )
    enable_bootstrap_signer: bool = field(default=False, metadata={"help": "expire bootstrap tokens"})
    kubelet_client_certificate: str = field(
        default="", metadata={"help": "certificate shown to kubelets; default the service's own"}
    )
    kubelet_client_key: str = field(default="", metadata={"help": "key of --kubelet-client-certificate"})
    kubelet_certificate_authority: str = field(
        default="", metadata={"help": "CA of the kubelets' serving certificates; default --client-ca-file"}
    )
