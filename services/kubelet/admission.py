"""Whether a pod that was bound to this node can run here: resources and node affinity. Pure functions."""

from collections.abc import Iterable, Mapping

from services.kubelet.observed import Rejection
from tillerman.api.pods import resource_requests
from tillerman.pb.k8s import core_v1_pb2 as core

_NO_MATCH = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"


def admit(
    pod: core.Pod,
    *,
    active: Iterable[core.Pod],
    allocatable: Mapping[str, int],
    node_labels: Mapping[str, str],
    node_name: str,
) -> Rejection | None:
    """active: the other pods of the node that have not ended. allocatable: cpu in millicores, others in units."""
    if not matches_node(pod, node_labels, node_name):
        return Rejection("NodeAffinity", _NO_MATCH)
    used: dict[str, int] = {}
    count = 0
    for other in active:
        count += 1
        for name, amount in resource_requests(other).items():
            used[name] = used.get(name, 0) + amount
    if "pods" in allocatable and count + 1 > allocatable["pods"]:
        return Rejection("OutOfpods", _words("pods", 1, count, allocatable["pods"]))
    for name, amount in resource_requests(pod).items():
        if name == "pods" or amount == 0:
            continue
        capacity = allocatable.get(name, 0)
        if used.get(name, 0) + amount > capacity:
            return Rejection(f"OutOf{name}", _words(name, amount, used.get(name, 0), capacity))
    return None


def matches_node(pod: core.Pod, labels: Mapping[str, str], node_name: str) -> bool:
    if any(labels.get(key) != value for key, value in pod.spec.nodeSelector.items()):
        return False
    node_affinity = pod.spec.affinity.nodeAffinity
    if not node_affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
        return True
    terms = node_affinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    return any(_term_matches(term, labels, node_name) for term in terms)


def _term_matches(term: core.NodeSelectorTerm, labels: Mapping[str, str], node_name: str) -> bool:
    if not term.matchExpressions and not term.matchFields:
        return False
    fields = {"metadata.name": node_name}
    return all(_holds(r, labels) for r in term.matchExpressions) and all(_holds(r, fields) for r in term.matchFields)


def _holds(requirement: core.NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(requirement.key), list(requirement.values)
    match requirement.operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                difference = int(value or "") - int(values[0])
            except (ValueError, IndexError):
                return False
            return difference > 0 if requirement.operator == "Gt" else difference < 0
    return False


def _words(resource: str, requested: int, used: int, capacity: int) -> str:
    return f"Pod was rejected: {shortage(resource, requested, used, capacity)}"


def shortage(resource: str, requested: int, used: int, capacity: int) -> str:
    return f"Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
