"""Which controllers run, and which requests for certificates are approved."""

import pytest

from services.controller.certificates import KUBELET_CLIENT, KUBELET_SERVING, approval
from services.controller.registry import BUILT_IN, UnknownController, available, choose, load
from tillerman.pb.k8s import certificates_v1_pb2 as certificates
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service.pki import make_request


def test_every_built_in_controller_loads_under_its_name() -> None:
    assert {name: load(reference).name for name, reference in BUILT_IN.items()} == {name: name for name in BUILT_IN}
    assert available().keys() >= BUILT_IN.keys()


@pytest.mark.parametrize(
    "wanted, chosen",
    [(["*"], ["a", "b"]), (["*", "-a"], ["b"]), (["a"], ["a"]), (["-a"], []), (["b", "a"], ["a", "b"])],
)
def test_choosing(wanted, chosen) -> None:
    assert choose(wanted, ["a", "b"]) == chosen


def test_an_unknown_controller_is_named() -> None:
    with pytest.raises(UnknownController, match='no controller "c"'):
        choose(["*", "-c"], ["a", "b"])


def request(signer: str, user: str, groups: list[str], name="system:node:n1", organization="system:nodes", sans=()):
    result = certificates.CertificateSigningRequest()
    result.spec.request, _ = make_request(name, [organization], sans)
    result.spec.signerName = signer
    result.spec.username = user
    result.spec.groups.extend(groups)
    usage = "client auth" if signer == KUBELET_CLIENT else "server auth"
    result.spec.usages.extend(["digital signature", usage])
    return result


def test_nodes_get_certificates_in_their_own_name_only() -> None:
    known = core.Node()
    known.metadata.name = "n1"
    known.status.addresses.add(type="InternalIP", address="10.0.0.1")
    joining = ("system:bootstrap:abc", ["system:bootstrappers"])
    itself = ("system:node:n1", ["system:nodes"])
    other = ("system:node:n2", ["system:nodes"])
    assert approval(request(KUBELET_CLIENT, *joining), None)
    assert approval(request(KUBELET_CLIENT, *itself), None)
    assert not approval(request(KUBELET_CLIENT, *other), None)
    assert not approval(request(KUBELET_CLIENT, *joining, name="admin", organization="system:masters"), None)
    assert not approval(request(KUBELET_CLIENT, *joining, sans=["10.0.0.1"]), None)
    assert approval(request(KUBELET_SERVING, *itself, sans=["n1", "10.0.0.1"]), known)
    assert not approval(request(KUBELET_SERVING, *itself, sans=["evil.example", "10.0.0.1"]), known)
    assert not approval(request(KUBELET_SERVING, *joining, sans=["n1"]), known)
    assert not approval(request(KUBELET_SERVING, *itself, sans=["n1"]), None)
