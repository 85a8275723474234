"""The certificates of a local cluster: one CA, and for each component its own identity to serve and to call with."""

from dataclasses import dataclass
from pathlib import Path

from tillerman.client import kubeconfig
from tillerman.cluster.network import first_address
from tillerman.cluster.roles import Cluster
from tillerman.service import pki

LEAF_DAYS = 90.0


@dataclass(frozen=True, slots=True)
class Identity:
    """File name, common name and groups; `calls` says whether the component is a client of the API server."""

    name: str
    common_name: str
    groups: tuple[str, ...] = ()
    calls: bool = True


def identities(nodes: list[str]) -> list[Identity]:
    return [
        Identity("apiserver", "kube-apiserver", calls=False),
        Identity("apiserver-etcd-client", "kube-apiserver", calls=False),
        Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",), calls=False),
        Identity("etcd-server", "etcd", calls=False),
        Identity("prometheus", "system:prometheus", calls=False),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("cloud-controller-manager", "system:cloud-controller-manager"),
        Identity("proxy", "system:kube-proxy", ("system:node-proxier",)),
        *(Identity(node, f"system:node:{node}", ("system:nodes",)) for node in nodes),
    ]


def lay_out(cluster: Cluster, endpoint: str) -> None:
    """Writes the CA, a certificate per identity and a kubeconfig per client; existing files are replaced."""
    folder = cluster.pki
    ca = pki.make_ca(f"tillerman-{cluster.name}")
    ca_file, _ = ca.write(folder)
    hosts = ["localhost", "127.0.0.1", cluster.node_ip]
    served = [
        *("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
        first_address(cluster.ranges.service_cidr),
    ]
    server = f"https://127.0.0.1:{cluster.ports['apiserver-https']}"
    for identity in identities(cluster.nodes):
        extra = served if identity.name == "apiserver" else [identity.name]
        pair = pki.issue(ca, identity.common_name, identity.groups, [*hosts, *extra], LEAF_DAYS)
        crt, key = pair.write(folder, identity.name)
        if identity.calls:
            path = folder / f"{identity.name}.kubeconfig"
            kubeconfig.write(
                path, endpoints=[endpoint], server=server, ca=ca_file, cert=crt, key=key, user=identity.name
            )
    pki.write_secret(folder / "sa.key", pki.make_signing_key())
    admin = pki.issue(ca, "kubernetes-admin", ("system:masters",), (), LEAF_DAYS, server=False)
    write_admin(cluster.folder / "kubeconfig", cluster.name, endpoint, server, ca, admin)


def write_admin(
    path: Path, name: str, endpoint: str, server: str, ca: pki.CertificateAuthority, admin: pki.KeyPair
) -> None:
    """The administrator's kubeconfig holds its credentials itself, so that it can be copied elsewhere."""
    kubeconfig.write(
        path,
        endpoints=[endpoint],
        server=server,
        ca=ca.pair.certificate,
        cert=admin.certificate,
        key=admin.key,
        name=name,
        user="kubernetes-admin",
    )
