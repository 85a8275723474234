"""What the control plane asks of pods."""

from tillerman.api import quantity
from tillerman.pb.k8s import core_v1_pb2 as core


def is_ready(pod: core.Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


def is_terminal(pod: core.Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def is_active(pod: core.Pod) -> bool:
    return not is_terminal(pod) and not pod.metadata.HasField("deletionTimestamp")


def resource_requests(pod: core.Pod) -> dict[str, int]:
    """What the pod takes of a node: cpu in thousandths, the rest in units, "pods" 1.

    The sum over containers and sidecars, or the largest init container (with the sidecars started before it) where
    that is more, plus the overhead.
    """
    total = container_sum(pod)
    started: dict[str, int] = {}
    for container in pod.spec.initContainers:
        requests = amounts(dict(container.resources.requests))
        if container.restartPolicy == "Always":
            add(started, requests)
            peak = started
            add(total, requests)
        else:
            peak = dict(started)
            add(peak, requests)
        for name, amount in peak.items():
            total[name] = max(total.get(name, 0), amount)
    add(total, amounts(dict(pod.spec.overhead)))
    total["pods"] = 1
    return total


def container_sum(pod: core.Pod) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in pod.spec.containers:
        add(total, amounts(dict(container.resources.requests)))
    return total


def amounts(requests: "dict[str, quantity.resource.Quantity]") -> dict[str, int]:
    return {n: quantity.milli_value(q) if n == "cpu" else quantity.value(q) for n, q in requests.items()}


def add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def qos_class(pod: core.Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by Kubernetes' rule over cpu and memory."""
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for container in (*pod.spec.containers, *pod.spec.initContainers):
        asked = {n: a for n, a in amounts(dict(container.resources.requests)).items() if n in ("cpu", "memory") and a}
        capped = {n: a for n, a in amounts(dict(container.resources.limits)).items() if n in ("cpu", "memory") and a}
        add(requests, asked)
        add(limits, capped)
        guaranteed = guaranteed and set(capped) == {"cpu", "memory"}
    if not requests and not limits:
        return "BestEffort"
    same = all(limits.get(name) == amount for name, amount in requests.items())
    return "Guaranteed" if guaranteed and same and set(requests) <= set(limits) else "Burstable"
