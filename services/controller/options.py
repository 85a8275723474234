"""The flags of the controller manager; names and defaults are kube-controller-manager's where one exists."""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.service.options import ServiceOptions, option


@dataclass(kw_only=True)
class ControllerManagerOptions(ServiceOptions):
    """Durations are seconds."""

    controllers: list[str] = option(
        ["*"], help="Which controllers run: '*' for all, 'name' adds one, '-name' leaves one out."
    )
    leader_elect: bool = option(True, help="Run only while holding the leader Lease.")
    leader_elect_identity: str = option("", help="name written into the Lease; default <host>_<address>:<port>")
    leader_elect_lease_duration: float = option(15.0, help="seconds a Lease is valid")
    leader_elect_renew_deadline: float = option(10.0, help="seconds to renew before giving up")
    leader_elect_retry_period: float = option(2.0, help="seconds between tries")

    node_monitor_grace_period: float = option(40.0, help="seconds without a heartbeat before a node is Unknown")
    node_startup_grace_period: float = option(60.0, help="seconds a node that never sent a heartbeat may take")
    node_eviction_rate: float = option(0.1, help="nodes per second emptied in a healthy zone")
    secondary_node_eviction_rate: float = option(
        0.01, help="nodes per second emptied in a large zone that is mostly down"
    )
    unhealthy_zone_threshold: float = option(0.55, help="fraction of nodes down from which a zone counts as unhealthy")
    large_cluster_size_threshold: int = option(
        50, help="up to this many nodes, an unhealthy zone is not emptied at all"
    )

    allocate_node_cidrs: bool = option(True, help="give each node a podCIDR")
    cluster_cidr: str = option("10.244.0.0/16", help="addresses of all pods")
    node_cidr_mask_size: int = option(24, help="prefix length of one node's podCIDR")

    terminated_pod_gc_threshold: int = option(
        12500, help="terminated pods kept before the oldest are deleted; 0 keeps all"
    )
    horizontal_pod_autoscaler_sync_period: float = option(15.0, help="seconds between decisions")
    horizontal_pod_autoscaler_downscale_stabilization: float = option(
        300.0, help="seconds of recommendations a scale-down looks back over"
    )
    horizontal_pod_autoscaler_tolerance: float = option(
        0.1, help="relative distance from the target that is not acted on"
    )
    horizontal_pod_autoscaler_cpu_initialization_period: float = option(
        300.0, help="seconds after its start in which a pod's CPU may be ignored"
    )
    horizontal_pod_autoscaler_initial_readiness_delay: float = option(
        30.0, help="seconds after its start in which an unready pod counts as starting"
    )

    root_ca_file: str = option("", help="CA certificate published as kube-root-ca.crt")
    cluster_signing_cert_file: str = option("", help="CA certificate that signs CSRs")
    cluster_signing_key_file: str = option("", help="key of the CA that signs CSRs")
    cluster_signing_duration: float = option(31536000.0, help="longest validity of a certificate signed here")
    enable_bootstrap_signer: bool = option(False, help="expire bootstrap tokens")
    kubelet_client_certificate: str = option("", help="certificate shown to kubelets; default the service's own")
    kubelet_client_key: str = option("", help="key of --kubelet-client-certificate")
    kubelet_certificate_authority: str = option(
        "", help="CA of the kubelets' serving certificates; default --client-ca-file"
    )
