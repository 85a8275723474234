"""The command line of every process of a local cluster."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tillerman.cluster.layout import ProcessPlan
from tillerman.cluster.network import Ranges

# Each service is a small asyncio process: one malloc arena is enough and keeps idle memory down.
SERVICE_ENV = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The decisions that command lines are made from."""

    name: str
    folder: Path
    runtime: str
    nodes: list[str]
    proxy_mode: str
    ranges: Ranges
    ports: dict[str, int]
    node_ip: str
    etcd_binary: str
    log_level: str
    process_image_path: str = ""

    @property
    def identity(self) -> str:
        """What tells it from all others of this machine, those of the same name under another home included."""
        return f"{self.name}-{hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:6]}"

    @property
    def pod_network(self) -> str:
        return f"tillerman-{self.identity}"

    @property
    def table(self) -> str:
        return f"tillerman-{self.identity}"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"


def processes(cluster: Cluster) -> list[ProcessPlan]:
    """In the order in which they are started."""
    return [
        etcd(cluster),
        apiserver(cluster),
        controller_manager(cluster),
        *(kubelet(cluster, node) for node in cluster.nodes),
        scheduler(cluster),
        proxy(cluster),
        cloud_controller_manager(cluster),
    ]


def etcd(cluster: Cluster) -> ProcessPlan:
    client, peer = (f"http{s}://127.0.0.1:{cluster.ports[p]}" for s, p in (("s", "etcd"), ("", "etcd-peer")))
    argv = [
        cluster.etcd_binary,
        "--name=etcd",
        f"--data-dir={cluster.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd={peer}",
        f"--cert-file={cluster.pki / 'etcd-server.crt'}",
        f"--key-file={cluster.pki / 'etcd-server.key'}",
        f"--trusted-ca-file={cluster.pki / 'ca.crt'}",
        "--client-cert-auth=true",
        "--logger=zap",
        "--log-level=warn",
        "--snapshot-count=10000",
        "--quota-backend-bytes=2147483648",
        # Watches learn of progress every few seconds, so that caches of quiet resources stay current.
        "--experimental-watch-progress-notify-interval=5s",
        # One machine, one member: an election need not wait for anyone.
        "--heartbeat-interval=50",
        "--election-timeout=250",
    ]
    return ProcessPlan("etcd", argv, cluster.ports["etcd"], {"GOMAXPROCS": "2", "GOGC": "50"})


def service(cluster: Cluster, name: str, module: str, flags: list[str]) -> ProcessPlan:
    """A Tillerman service: its own certificate and client configuration, ports by its name."""
    identity = cluster.pki / name
    argv = [
        sys.executable,
        "-m",
        f"services.{module}",
        f"--port={cluster.ports[name]}",
        f"--metrics-port={cluster.ports[name + '-metrics']}",
        f"--tls-cert-file={identity}.crt",
        f"--tls-key-file={identity}.key",
        f"--client-ca-file={cluster.pki / 'ca.crt'}",
        f"--log-level={cluster.log_level}",
        *flags,
    ]
    return ProcessPlan(name, argv, cluster.ports[name + "-metrics"], dict(SERVICE_ENV))


def client_flag(cluster: Cluster, name: str) -> str:
    return f"--kubeconfig={cluster.pki / name}.kubeconfig"


def apiserver(cluster: Cluster) -> ProcessPlan:
    pki = cluster.pki
    return service(
        cluster,
        "apiserver",
        "apiserver",
        [
            f"--etcd-servers=127.0.0.1:{cluster.ports['etcd']}",
            f"--etcd-cafile={pki / 'ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
            f"--secure-port={cluster.ports['apiserver-https']}",
            f"--advertise-address={cluster.node_ip}",
            f"--service-cluster-ip-range={cluster.ranges.service_cidr}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            f"--service-account-key-file={pki / 'sa.key'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        ],
    )


def controller_manager(cluster: Cluster) -> ProcessPlan:
    pki = cluster.pki
    return service(
        cluster,
        "controller-manager",
        "controller",
        [
            client_flag(cluster, "controller-manager"),
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={cluster.ranges.cluster_cidr}",
            "--node-cidr-mask-size=24",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
        ],
    )


def scheduler(cluster: Cluster) -> ProcessPlan:
    return service(cluster, "scheduler", "scheduler", [client_flag(cluster, "scheduler")])


def cloud_controller_manager(cluster: Cluster) -> ProcessPlan:
    name = "cloud-controller-manager"
    return service(cluster, name, "cloud", [client_flag(cluster, name), "--cloud-provider=local"])


def kubelet(cluster: Cluster, node: str) -> ProcessPlan:
    return service(
        cluster,
        node,
        "kubelet",
        [
            client_flag(cluster, node),
            f"--node-name={node}",
            f"--node-ip={cluster.node_ip}",
            f"--bind-address={cluster.node_ip}",
            f"--runtime={cluster.runtime}",
            f"--root-dir={cluster.folder / 'kubelet' / node}",
            f"--cluster-name={cluster.identity}",
            f"--pod-network={cluster.pod_network}",
            f"--cluster-cidr={cluster.ranges.cluster_cidr}",
            f"--cluster-dns={cluster.ranges.cluster_dns}",
            "--cluster-domain=cluster.local",
            *([f"--process-image-path={cluster.process_image_path}"] if cluster.process_image_path else []),
        ],
    )


def proxy(cluster: Cluster) -> ProcessPlan:
    return service(
        cluster,
        "proxy",
        "proxy",
        [
            client_flag(cluster, "proxy"),
            f"--mode={cluster.proxy_mode}",
            f"--table={cluster.table}",
            f"--cluster-cidr={cluster.ranges.cluster_cidr}",
            f"--cluster-dns={cluster.ranges.cluster_dns}",
        ],
    )
