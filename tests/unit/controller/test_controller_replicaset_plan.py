"""ReplicaSet decisions: how many, which first, what status."""

import pytest

from services.controller.replicaset.plan import next_available_in, plan_replicas, plan_status
from services.controller.replicaset.ranking import DELETION_COST, deletion_cost, pods_to_delete
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def pod(
    name: str, *, node="n1", phase="Running", ready=True, age=1000, ready_for=None, cost=None, restarts=0
) -> core.Pod:
    result = core.Pod()
    result.metadata.name = result.metadata.uid = name
    result.metadata.labels["app"] = "web"
    result.metadata.creationTimestamp.seconds = int(NOW - age)
    if cost is not None:
        result.metadata.annotations[DELETION_COST] = cost
    if node:
        result.spec.nodeName = node
    result.status.phase = phase
    condition = result.status.conditions.add(type="Ready", status="True" if ready else "False")
    condition.lastTransitionTime.seconds = int(NOW - (age if ready_for is None else ready_for))
    result.status.containerStatuses.add(name="c", restartCount=restarts)
    return result


def replica_set(replicas: int, **spec) -> apps.ReplicaSet:
    result = apps.ReplicaSet()
    result.metadata.name = "web"
    result.metadata.generation = 4
    result.spec.replicas = replicas
    result.spec.template.metadata.labels["app"] = "web"
    for name, value in spec.items():
        setattr(result.spec, name, value)
    return result


@pytest.mark.parametrize(
    "first, second",
    [
        (pod("a", node=""), pod("b", phase="Pending", ready=False)),
        (pod("z", phase="Pending", ready=False), pod("b", phase="Unknown", ready=False)),
        (pod("z", phase="Unknown", ready=False), pod("b", ready=False)),
        (pod("z", ready=False), pod("b")),
        (pod("z", cost="-5"), pod("b")),
        (pod("z"), pod("b", cost="7")),
        (pod("z", node="crowded"), pod("b", node="n1")),
        (pod("z", ready_for=10), pod("b", ready_for=900)),
        (pod("z", restarts=3), pod("b")),
        (pod("z", age=100, ready_for=50), pod("b", age=10_000, ready_for=50)),
        (pod("a"), pod("b")),
    ],
)
def test_the_less_useful_pod_goes_first(first: core.Pod, second: core.Pod) -> None:
    related = [first, second, pod("x", node="crowded"), pod("y", node="crowded")]
    for order in ([first, second], [second, first]):
        assert [p.metadata.name for p in pods_to_delete(order, related, 1, NOW)] == [first.metadata.name]


@pytest.mark.parametrize("text, cost", [("", 0), ("10", 10), ("-3", -3), ("+3", 0), ("x", 0), ("99999999999", 0)])
def test_deletion_cost(text: str, cost: int) -> None:
    assert deletion_cost(pod("a", cost=text)) == cost


def test_creates_what_is_missing_and_ignores_ended_and_terminating_pods() -> None:
    going = pod("going")
    going.metadata.deletionTimestamp.seconds = 1
    pods = [pod("a"), pod("done", phase="Succeeded"), pod("failed", phase="Failed"), going]
    assert plan_replicas(replica_set(3), pods, pods, NOW).create == 2


def test_a_burst_is_bounded() -> None:
    assert plan_replicas(replica_set(2000), [], [], NOW).create == 500


def test_nothing_to_do_at_the_right_size() -> None:
    plan = plan_replicas(replica_set(1), [pod("a")], [], NOW)
    assert (plan.create, list(plan.delete)) == (0, [])


def test_status_counts_and_min_ready_seconds() -> None:
    pods = [pod("old", ready_for=100), pod("new", ready_for=4), pod("unready", ready=False)]
    pods[1].metadata.labels["app"] = "other"
    status = plan_status(replica_set(3, minReadySeconds=10), pods, None, NOW)
    assert (status.replicas, status.readyReplicas, status.availableReplicas) == (3, 2, 1)
    assert (status.fullyLabeledReplicas, status.observedGeneration) == (2, 4)
    assert next_available_in(pods, 10, NOW) == 6
    assert next_available_in(pods, 0, NOW) is None


def test_a_refusal_shows_as_replica_failure_and_goes_again() -> None:
    owner = replica_set(1)
    owner.status.CopyFrom(plan_status(owner, [], ("FailedCreate", "quota"), NOW))
    assert [(c.type, c.status, c.reason) for c in owner.status.conditions] == [
        ("ReplicaFailure", "True", "FailedCreate")
    ]
    assert plan_status(owner, [], ("FailedCreate", "quota"), NOW + 5) == owner.status
    assert not plan_status(owner, [], None, NOW).conditions
