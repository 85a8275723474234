"""The API server's flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tillerman.service import ServiceOptions, option


@dataclass(kw_only=True)
class ApiserverOptions(ServiceOptions):
    """The API server: the only component that speaks to etcd."""

    etcd_servers: list[str] = option(["127.0.0.1:2379"], help="etcd's client endpoints, host:port.")
    etcd_cafile: Path | None = option(
        None, help="PEM CA certificates of etcd; without it the connection is plain text."
    )
    etcd_certfile: Path | None = option(None, help="PEM client certificate for etcd.")
    etcd_keyfile: Path | None = option(None, help="PEM private key for etcd.")
    secure_port: int = option(0, help="Port of the HTTPS front; 0 serves none.")
    advertise_address: str = option(
        "", help="IP address under which others reach this server; empty: the bind address."
    )
    service_cluster_ip_range: str = option("10.96.0.0/16", help="CIDR that Services' cluster IPs come from.")
    service_node_port_range: str = option("30000-32767", help="Ports that NodePorts come from, FIRST-LAST.")
    kubelet_client_certificate: Path | None = option(None, help="PEM client certificate for kubelets.")
    kubelet_client_key: Path | None = option(None, help="PEM private key for kubelets.")
    kubelet_certificate_authority: Path | None = option(
        None, help="PEM CA certificates of kubelets; empty: the client CA file."
    )
    token_auth_file: Path | None = option(
        None, help='CSV file of bearer tokens: token, user name, uid, "group1,group2".'
    )
    service_account_key_file: list[str] = option([], help="PEM keys that service account tokens are verified with.")
    service_account_signing_key_file: Path | None = option(
        None, help="PEM private key that service account tokens are signed with."
    )
    service_account_issuer: str = option(
        "https://kubernetes.default.svc.cluster.local", help="Issuer in service account tokens."
    )
    authorization_mode: list[str] = option(
        ["Node", "RBAC"], help="Who decides what a user may do, in this order: Node, RBAC, AlwaysAllow."
    )
    enable_admission_plugins: list[str] = option(
        [], help="Admission plugins that run beside those that run by default; their order is fixed."
    )
    disable_admission_plugins: list[str] = option(
        [], help="Admission plugins that do not run although they do by default."
    )
    default_not_ready_toleration_seconds: int = option(
        300, help="Seconds that a pod stays on a node that is not ready, unless the pod says otherwise."
    )
    default_unreachable_toleration_seconds: int = option(
        300, help="Seconds that a pod stays on a node that cannot be reached, unless the pod says otherwise."
    )
    event_ttl: float = option(3600.0, help="Seconds that Events are kept.")
    max_request_bytes: int = option(1_500_000, help="Bytes that a stored object may take.")
    max_requests_inflight: int = option(800, help="Read requests served at the same time; more get 429.")
    max_mutating_requests_inflight: int = option(400, help="Writes served at the same time; more get 429.")
    etcd_compaction_interval: float = option(300.0, help="Seconds between compactions of etcd; 0: never.")
