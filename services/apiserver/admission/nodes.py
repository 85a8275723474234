"""NodeRestriction: a kubelet touches nothing but its own node and what runs there. TaintNodesByCondition."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, DELETE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.auth.node import references
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.resource import Resource
from tillerman.pb.k8s import core_v1_pb2 as core

NOT_READY = "node.kubernetes.io/not-ready"
MIRROR = "kubernetes.io/config.mirror"
LEASE_NAMESPACE = "kube-node-lease"
# What a kubelet may say about its node of the labels that are Kubernetes' own.
OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    }
)
OWN_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"
KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
KINDS = {"secrets": "secrets", "configmaps": "configmaps", "persistentvolumeclaims": "persistentvolumeclaims"}
HANDLED = frozenset(
    {
        ("", "pods"),
        ("", "nodes"),
        ("", "serviceaccounts"),
        ("coordination.k8s.io", "leases"),
        ("storage.k8s.io", "csinodes"),
    }
)


class NodeTaint(BasePlugin):
    """TaintNodesByCondition: nothing is placed on a new node before its conditions have been looked at."""

    operations = frozenset({CREATE})
    resources = frozenset({("", "nodes")})

    async def admit(self, attributes: Attributes) -> None:
        taints = attributes.obj.spec.taints
        if not any(taint.key == NOT_READY and taint.effect == "NoSchedule" for taint in taints):
            taints.append(core.Taint(key=NOT_READY, effect="NoSchedule"))


class NodeRestriction(BasePlugin):
    """What the node authorizer lets a kubelet write, looked at in detail. Raises Forbidden."""

    reads = frozenset()

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        return (resource.group, resource.name) in HANDLED and operation in (CREATE, UPDATE, DELETE)

    async def validate(self, attributes: Attributes) -> None:
        user = attributes.context.user
        if "system:nodes" not in user.groups:
            return
        attributes.repeatable = False
        node = user.name.removeprefix("system:node:")
        if node in ("", user.name):
            raise refused(attributes, f'could not determine node from user "{user.name}"')
        match attributes.resource.name, attributes.subresource:
            case "pods", "":
                self._pod(attributes, node)
            case "pods", "status":
                self._pod_status(attributes, node)
            case "pods", "eviction":
                self._on_node(attributes, node, self._stored_pod(attributes), "evict pods")
            case "pods", subresource:
                raise refused(attributes, f'unexpected pod subresource "{subresource}"')
            case "nodes", _:
                self._node(attributes, node)
            case "serviceaccounts", "token":
                self._token(attributes, node)
            case "leases", _:
                if attributes.namespace != LEASE_NAMESPACE:
                    detail = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
                    raise refused(attributes, detail)
                self._same_name(attributes, node, "node lease")
            case "csinodes", _:
                self._same_name(attributes, node, "CSINode")

    def _same_name(self, attributes: Attributes, node: str, what: str) -> None:
        if attributes.shown_name != node:
            raise refused(attributes, f"can only access {what} with the same name as the requesting node")

    # -- pods ------------------------------------------------------------------------------------------------------

    def _pod(self, attributes: Attributes, node: str) -> None:
        if attributes.operation == DELETE:
            self._on_node(attributes, node, attributes.old, "delete pods")
            return
        if attributes.operation != CREATE:
            detail = (
                f'unexpected operation "{attributes.operation}", node "{node}" can only create and delete mirror pods'
            )
            raise refused(attributes, detail)
        pod = attributes.obj
        if MIRROR not in pod.metadata.annotations:
            detail = f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
            raise refused(attributes, detail)
        self._on_node(attributes, node, pod, "create pods")
        self._owned_by(attributes, node)
        if pod.spec.serviceAccountName:
            raise refused(attributes, f'node "{node}" can not create pods that reference a service account')
        referenced = {resource for resource, name in references(pod) if (resource, name) != ROOT_CA}
        for resource, shown in KINDS.items():
            if resource in referenced:
                raise refused(attributes, f'node "{node}" can not create pods that reference {shown}')

    def _owned_by(self, attributes: Attributes, node: str) -> None:
        owners = attributes.obj.metadata.ownerReferences
        if len(owners) > 1:
            detail = f'node "{node}" can only create pods with a single owner reference set to itself'
            raise refused(attributes, detail)
        if not owners or (owners[0].apiVersion, owners[0].kind, owners[0].name) != ("v1", "Node", node):
            raise refused(attributes, f'node "{node}" can only create pods with an owner reference set to itself')
        if not owners[0].controller:
            detail = f'node "{node}" can only create pods with a controller owner reference set to itself'
            raise refused(attributes, detail)
        if owners[0].blockOwnerDeletion:
            raise refused(attributes, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        nodes = self._catalog.get("v1", "nodes")
        entry = nodes.cache.entries.get(nodes.key("", node))
        uid = entry.message().metadata.uid if entry is not None else ""
        if uid != owners[0].uid:
            raise refused(attributes, f"node {node} UID mismatch: expected {uid} got {owners[0].uid}")

    def _pod_status(self, attributes: Attributes, node: str) -> None:
        self._on_node(attributes, node, attributes.old, "update pod status for pods")
        if attributes.obj.metadata.labels != attributes.old.metadata.labels:
            raise refused(attributes, f'node "{node}" cannot update labels through pod status')

    def _on_node(self, attributes: Attributes, node: str, pod: Any | None, what: str) -> None:
        if pod is not None and pod.spec.nodeName != node:
            raise refused(attributes, f'node "{node}" can only {what} with spec.nodeName set to itself')

    def _stored_pod(self, attributes: Attributes) -> Any | None:
        """None for a pod that is gone: eviction itself says so."""
        pods = self._catalog.get("v1", "pods")
        entry = pods.cache.entries.get(pods.key(attributes.namespace, attributes.name))
        return None if entry is None else entry.message()

    # -- nodes and tokens ------------------------------------------------------------------------------------------

    def _node(self, attributes: Attributes, node: str) -> None:
        name = attributes.shown_name
        if name != node:
            raise refused(attributes, f'node "{node}" is not allowed to modify node "{name}"')
        if attributes.operation == DELETE:
            return
        new, old = attributes.obj, attributes.old
        before = dict(old.metadata.labels) if old is not None else {}
        labels = forbidden_labels(dict(new.metadata.labels), before)
        if old is None:
            if labels:
                detail = f'node "{node}" is not allowed to set the following labels: {", ".join(labels)}'
                raise refused(attributes, detail)
            return
        if list(new.spec.taints) != list(old.spec.taints):
            raise refused(attributes, f'node "{node}" is not allowed to modify taints')
        if labels:
            raise refused(attributes, f'node "{node}" is not allowed to modify labels: {", ".join(labels)}')
        if list(new.metadata.ownerReferences) != list(old.metadata.ownerReferences):
            raise refused(attributes, f'node "{node}" is not allowed to modify ownerReferences')

    def _token(self, attributes: Attributes, node: str) -> None:
        bound = attributes.obj.spec.boundObjectRef
        if (bound.kind, bound.apiVersion) != ("Pod", "v1") or not bound.name:
            raise refused(attributes, "node requested token not bound to a pod")
        if not bound.uID:
            raise refused(attributes, "node requested token with a pod binding without a uid")
        pods = self._catalog.get("v1", "pods")
        entry = pods.cache.entries.get(pods.key(attributes.namespace, bound.name))
        if entry is not None:
            pod = entry.message()
            if pod.spec.nodeName != node:
                raise refused(attributes, "node requested token bound to a pod scheduled on a different node")


ROOT_CA = ("configmaps", "kube-root-ca.crt")


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The labels that changed and are not a kubelet's to change."""
    changed = [name for name in sorted(new.keys() | old.keys()) if new.get(name) != old.get(name)]
    return [name for name in changed if not _is_own(name)]


def _is_own(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if _within(domain, (RESTRICTED_DOMAIN,)):
        return False
    return label in OWN_LABELS or _within(domain, OWN_DOMAINS) or not _within(domain, KUBERNETES_DOMAINS)


def _within(domain: str, zones: tuple[str, ...]) -> bool:
    return any(domain == zone or domain.endswith(f".{zone}") for zone in zones)
