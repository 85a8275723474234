"""The small plugins, as tables: what they set, what they refuse and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from admitted import Shelf, pod

from services.apiserver.admission.certificates import CertificateApproval, CertificateSubjectRestriction
from services.apiserver.admission.chain import CREATE, DELETE, UPDATE, BasePlugin, Chain
from services.apiserver.admission.ingress import DefaultIngressClass
from services.apiserver.admission.nodes import NodeRestriction, NodeTaint
from services.apiserver.admission.plugins import chosen
from services.apiserver.admission.priority import Priority
from services.apiserver.admission.runtime_class import RuntimeClasses
from services.apiserver.admission.storage import ClaimResize, DefaultStorageClass, StorageProtection
from services.apiserver.admission.tolerations import DefaultTolerations
from services.apiserver.options import ApiserverOptions
from services.apiserver.registry.context import User
from tillerman.api import codec
from tillerman.api.status import StatusError
from tillerman.pb.k8s import authentication_v1_pb2, certificates_v1_pb2, networking_v1_pb2, scheduling_v1_pb2
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service.options import OptionsError

SCHEDULING = "scheduling.k8s.io/v1"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


# -- Priority --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("", 0, "PreemptLowerPriority")),
        ({"priorityClassName": "high"}, ("high", 100, "Never")),
        ({"priorityClassName": "high", "priority": 100}, ("high", 100, "Never")),
        ({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}, ("", 0, "PreemptLowerPriority")),
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (
            {"priority": 7},
            "the integer value of priority (7) must not be provided in pod spec; "
            "priority admission controller computed 0 from the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "Never"},
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; "
            "priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
async def test_a_pods_priority_is_its_classs(shelf: Shelf, spec: dict[str, Any], expected: Any) -> None:
    shelf.put(SCHEDULING, "PriorityClass", "high", value=100, preemptionPolicy="Never")
    plugin, obj = Priority(shelf.catalog, shelf), pod(**spec)
    if isinstance(expected, str):
        with pytest.raises(StatusError) as refused:
            await plugin.admit(shelf.attributes(obj))
        assert refused.value.message == f'pods "p" is forbidden: {expected}'
    else:
        await plugin.admit(shelf.attributes(obj))
        assert (obj.spec.priorityClassName, obj.spec.priority, obj.spec.preemptionPolicy) == expected


async def test_the_default_class_is_taken_and_there_is_only_one(shelf: Shelf) -> None:
    shelf.put(SCHEDULING, "PriorityClass", "usual", value=5, globalDefault=True)
    plugin, obj = Priority(shelf.catalog, shelf), pod()
    await plugin.admit(shelf.attributes(obj))
    assert (obj.spec.priorityClassName, obj.spec.priority) == ("usual", 5)
    other = scheduling_v1_pb2.PriorityClass(value=1, globalDefault=True)
    other.metadata.name = "other"
    with pytest.raises(StatusError, match="PriorityClass usual is already marked as default"):
        await plugin.validate(shelf.attributes(other))
    other.metadata.name = "usual"
    await plugin.validate(shelf.attributes(other, UPDATE, old=other))
    changed = pod()
    await plugin.admit(shelf.attributes(changed, UPDATE, old=obj))
    assert changed.spec.priority == 5


# -- tolerations, taints, storage, ingress ---------------------------------------------------------------------------


async def test_tolerations_are_added_unless_they_are_there(shelf: Shelf) -> None:
    plugin = DefaultTolerations(not_ready_seconds=10, unreachable_seconds=20)
    obj = pod(tolerations=[{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}])
    await plugin.admit(shelf.attributes(obj))
    assert [(t.key[19:], t.tolerationSeconds) for t in obj.spec.tolerations] == [("not-ready", 0), ("unreachable", 20)]
    everything = pod(tolerations=[{"operator": "Exists"}])
    await plugin.admit(shelf.attributes(everything))
    assert len(everything.spec.tolerations) == 1


async def test_new_nodes_are_tainted_once(shelf: Shelf) -> None:
    node = core.Node()
    for _ in range(2):
        await NodeTaint().admit(shelf.attributes(node))
    assert [(t.key, t.effect) for t in node.spec.taints] == [("node.kubernetes.io/not-ready", "NoSchedule")]


def claim(size: str = "1Gi", storage_class: str | None = None, phase: str = "Bound") -> core.PersistentVolumeClaim:
    found = core.PersistentVolumeClaim()
    found.metadata.name = "c"
    found.spec.resources.requests["storage"].string = size
    if storage_class is not None:
        found.spec.storageClassName = storage_class
    found.status.phase = phase
    return found


async def test_the_newest_default_storage_class_is_taken(shelf: Shelf) -> None:
    marked = {"storageclass.kubernetes.io/is-default-class": "true"}
    for name, born, marks in (
        ("old", "2020-01-01T00:00:00Z", marked),
        ("new-b", "2021-01-01T00:00:00Z", {"storageclass.beta.kubernetes.io/is-default-class": "true"}),
        ("new-a", "2021-01-01T00:00:00Z", marked),
        ("newest", "2022-01-01T00:00:00Z", {}),
    ):
        metadata = {"annotations": marks, "creationTimestamp": born}
        shelf.put("storage.k8s.io/v1", "StorageClass", name, metadata=metadata, provisioner="x")
    plugin = DefaultStorageClass(shelf.catalog)
    asks, none, old = claim(), claim(storage_class=""), claim()
    old.metadata.annotations["volume.beta.kubernetes.io/storage-class"] = "mine"
    for obj in (asks, none, old):
        await plugin.admit(shelf.attributes(obj))
    assert (asks.spec.storageClassName, none.spec.storageClassName) == ("new-a", "")
    assert not old.spec.HasField("storageClassName")


async def test_claims_and_volumes_are_protected(shelf: Shelf) -> None:
    obj, volume = claim(), core.PersistentVolume()
    for each in (obj, obj, volume):
        await StorageProtection().admit(shelf.attributes(each))
    assert list(obj.metadata.finalizers) == ["kubernetes.io/pvc-protection"]
    assert list(volume.metadata.finalizers) == ["kubernetes.io/pv-protection"]


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        (claim("2Gi", "grows"), claim("1Gi", "grows"), None),
        (claim("1Gi", "grows"), claim("2Gi", "grows"), None),
        (
            claim("1Gi", "grows", "Pending"),
            claim("2Gi", "grows"),
            "Only bound persistent volume claims can be expanded",
        ),
        (claim("1Gi", "fixed"), claim("2Gi", "fixed"), "only dynamically provisioned pvc can be resized"),
        (claim("1Gi"), claim("2Gi"), "only dynamically provisioned pvc can be resized"),
    ],
)
async def test_claims_grow_where_their_class_allows(shelf: Shelf, old: Any, new: Any, refusal: str | None) -> None:
    shelf.put("storage.k8s.io/v1", "StorageClass", "grows", provisioner="x", allowVolumeExpansion=True)
    shelf.put("storage.k8s.io/v1", "StorageClass", "fixed", provisioner="x")
    check = ClaimResize(shelf.catalog).validate(shelf.attributes(new, UPDATE, old=old))
    if refusal is None:
        await check
    else:
        with pytest.raises(StatusError, match=refusal):
            await check


async def test_the_default_ingress_class_is_taken(shelf: Shelf) -> None:
    annotations = {"ingressclass.kubernetes.io/is-default-class": "true"}
    shelf.put("networking.k8s.io/v1", "IngressClass", "edge", metadata={"annotations": annotations})
    ingress, old = networking_v1_pb2.Ingress(), networking_v1_pb2.Ingress()
    old.metadata.annotations["kubernetes.io/ingress.class"] = "x"
    for obj in (ingress, old):
        await DefaultIngressClass(shelf.catalog).admit(shelf.attributes(obj))
    assert (ingress.spec.ingressClassName, old.spec.ingressClassName) == ("edge", "")


# -- RuntimeClass ----------------------------------------------------------------------------------------------------


async def test_a_runtime_class_brings_overhead_and_scheduling(shelf: Shelf) -> None:
    shelf.put(
        "node.k8s.io/v1",
        "RuntimeClass",
        "kata",
        handler="kata",
        overhead={"podFixed": {"cpu": "250m"}},
        scheduling={"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
    )
    plugin = RuntimeClasses(shelf.catalog, shelf)
    obj = pod(runtimeClassName="kata", tolerations=[{"key": "vm", "operator": "Exists"}])
    await plugin.admit(shelf.attributes(obj))
    await plugin.validate(shelf.attributes(obj))
    assert obj.spec.overhead["cpu"].string == "250m" and dict(obj.spec.nodeSelector) == {"vm": "yes"}
    assert len(obj.spec.tolerations) == 1
    for spec, refusal in (
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"runtimeClassName": "kata", "nodeSelector": {"vm": "no"}}, r"conflict: runtimeClass.scheduling.nodeSelector"),
        ({"runtimeClassName": "kata", "overhead": {"cpu": "1"}}, "Overhead doesn't match RuntimeClass's"),
    ):
        with pytest.raises(StatusError, match=refusal):
            await plugin.admit(shelf.attributes(pod(**spec)))
    with pytest.raises(StatusError, match="Pod Overhead set without corresponding RuntimeClass"):
        await plugin.validate(shelf.attributes(pod(overhead={"cpu": "1"})))


# -- certificates ----------------------------------------------------------------------------------------------------


class Signers:
    """Lets users do what is listed as "verb name"."""

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed

    def allows(self, user: User, verb: str, target: Any) -> bool:
        return f"{verb} {target.name}" in self._allowed


@pytest.mark.parametrize(
    ("allowed", "passes"),
    [("approve example.com/a", True), ("approve example.com/*", True), ("sign example.com/a", False)],
)
async def test_approval_needs_the_signer(shelf: Shelf, allowed: str, passes: bool) -> None:
    request = certificates_v1_pb2.CertificateSigningRequest()
    request.metadata.name = "r"
    request.spec.signerName = "example.com/a"
    check = CertificateApproval(Signers(allowed)).validate(
        shelf.attributes(request, UPDATE, old=request, subresource="approval")
    )
    if passes:
        await check
    else:
        with pytest.raises(StatusError, match="user not permitted to approve requests with signerName"):
            await check


async def test_nobody_requests_to_be_an_administrator(shelf: Shelf) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    request = certificates_v1_pb2.CertificateSigningRequest()
    request.metadata.name = "r"
    for organization, refused in (("devs", False), ("system:masters", True)):
        name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = csr.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        request.spec.request = signed.public_bytes(serialization.Encoding.PEM)
        request.spec.signerName = "kubernetes.io/kube-apiserver-client"
        check = CertificateSubjectRestriction().validate(shelf.attributes(request))
        if not refused:
            await check
            continue
        with pytest.raises(StatusError, match="signer with system:masters group is not allowed"):
            await check


# -- NodeRestriction -------------------------------------------------------------------------------------------------

KUBELET = User("system:node:n1", ("system:nodes", "system:authenticated"))


def node(name: str = "n1", taints: bool = False, **labels: str) -> core.Node:
    found = core.Node()
    found.metadata.name = name
    found.metadata.labels.update({key.replace("__", "/").replace("_", "."): value for key, value in labels.items()})
    if taints:
        found.spec.taints.add(key="a", effect="NoSchedule")
    return found


@pytest.mark.parametrize(
    ("new", "old", "refusal"),
    [
        (node(), None, None),
        (node(kubernetes_io__hostname="n1", my_org__a="b", node_kubernetes_io__x="1"), None, None),
        (node("n2"), None, 'node "n1" is not allowed to modify node "n2"'),
        (node(topology_kubernetes_io__zone="a"), None, None),
        (node(node_role_kubernetes_io__x="1"), None, "not allowed to set the following labels: node.role"),
        (node(node_restriction_kubernetes_io__x="1"), None, "not allowed to set the following labels: node.restr"),
        (node(taints=True), node(), 'node "n1" is not allowed to modify taints'),
        (node(k8s_io__x="1"), node(), 'node "n1" is not allowed to modify labels: k8s.io/x'),
    ],
)
async def test_a_kubelet_writes_its_own_node(shelf: Shelf, new: Any, old: Any, refusal: str | None) -> None:
    check = NodeRestriction(shelf.catalog).validate(
        shelf.attributes(new, CREATE if old is None else UPDATE, old=old, user=KUBELET)
    )
    if refusal is None:
        await check
    else:
        with pytest.raises(StatusError, match=refusal):
            await check


async def test_a_kubelet_touches_its_own_pods(shelf: Shelf) -> None:
    plugin = NodeRestriction(shelf.catalog)
    mine, other = pod(nodeName="n1"), pod(nodeName="n2")
    await plugin.validate(shelf.attributes(None, DELETE, old=mine, user=KUBELET))
    await plugin.validate(shelf.attributes(mine, UPDATE, old=mine, subresource="status", user=KUBELET))
    with pytest.raises(StatusError, match=r"can only delete pods with spec\.nodeName set to itself"):
        await plugin.validate(shelf.attributes(None, DELETE, old=other, user=KUBELET))
    with pytest.raises(StatusError, match="can only update pod status for pods"):
        await plugin.validate(shelf.attributes(other, UPDATE, old=other, subresource="status", user=KUBELET))
    with pytest.raises(StatusError, match="can only create mirror pods"):
        await plugin.validate(shelf.attributes(mine, user=KUBELET))
    mirror = pod(nodeName="n1")
    mirror.metadata.annotations["kubernetes.io/config.mirror"] = "x"
    with pytest.raises(StatusError, match="an owner reference set to itself"):
        await plugin.validate(shelf.attributes(mirror, user=KUBELET))
    own = shelf.put("v1", "Node", "n1", metadata={"uid": "u"})
    mirror.metadata.ownerReferences.add(apiVersion="v1", kind="Node", name="n1", uid=own.metadata.uid, controller=True)
    await plugin.validate(shelf.attributes(mirror, user=KUBELET))
    mirror.spec.volumes.add(name="v").volumeSource.secret.secretName = "s"
    with pytest.raises(StatusError, match="can not create pods that reference secrets"):
        await plugin.validate(shelf.attributes(mirror, user=KUBELET))


async def test_a_kubelet_gets_tokens_for_pods_it_runs(shelf: Shelf) -> None:
    plugin = NodeRestriction(shelf.catalog)
    account = core.ServiceAccount()
    request = authentication_v1_pb2.TokenRequest()
    request.metadata.name = "default"
    shelf.put("v1", "Pod", "here", "space", spec={"nodeName": "n1"})
    shelf.put("v1", "Pod", "there", "space", spec={"nodeName": "n2"})

    async def ask(name: str, uid: str = "u") -> None:
        bound = request.spec.boundObjectRef
        bound.kind, bound.apiVersion, bound.name, bound.uID = "Pod", "v1", name, uid
        await plugin.validate(shelf.attributes(request, of=account, subresource="token", user=KUBELET))

    await ask("here")
    for name, uid, refusal in (
        ("there", "u", "scheduled on a different node"),
        ("here", "", "without a uid"),
        ("", "u", "not bound to a pod"),
    ):
        with pytest.raises(StatusError, match=refusal):
            await ask(name, uid)


# -- the chain and its flags -----------------------------------------------------------------------------------------


async def test_only_plugins_with_a_say_are_asked(shelf: Shelf) -> None:
    asked = []

    class Maps(BasePlugin):
        operations = frozenset({CREATE})
        resources = frozenset({("", "configmaps")})

        async def admit(self, attributes: Any) -> None:
            asked.append(attributes.name)
            attributes.reinvoke = len(asked) == 1

    chain = Chain([Maps()])
    first, config_map = pod(), core.ConfigMap()
    config_map.metadata.name = "m"
    await chain.admit(shelf.attributes(first))
    await chain.admit(shelf.attributes(config_map, UPDATE, old=config_map))
    assert not asked
    await chain.admit(shelf.attributes(config_map))
    assert asked == ["m", "m"]


def test_flags_leave_plugins_out_and_name_only_known_ones() -> None:
    known = ["A", "B"]
    assert chosen(known, ApiserverOptions(disable_admission_plugins=["A"])) == ["B"]
    assert chosen(known, ApiserverOptions(enable_admission_plugins=["B"])) == ["A", "B"]
    for flags in ({"enable_admission_plugins": ["C"]}, {"disable_admission_plugins": ["C"]}):
        with pytest.raises(OptionsError, match='there is no plugin "C"'):
            chosen(known, ApiserverOptions(**flags))
    with pytest.raises(OptionsError, match="both"):
        chosen(known, ApiserverOptions(enable_admission_plugins=["A"], disable_admission_plugins=["A"]))


def test_codec_reads_what_the_shelf_writes(shelf: Shelf) -> None:
    assert codec.to_dict(shelf.put("v1", "ConfigMap", "a", "b", data={"x": "y"}))["data"] == {"x": "y"}
