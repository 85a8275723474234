"""Rolling updates: sizes step by step, in Kubernetes' arithmetic."""

import pytest

from services.controller.deployment import plan
from services.controller.deployment.revisions import (
    REVISION,
    ReplicaSets,
    annotate_new,
    annotate_sizes,
    expired_sets,
    new_replica_set,
    next_revision,
    sort_out,
)
from services.controller.deployment.sizes import fenceposts, max_unavailable
from services.controller.deployment.status import rollout_status, seconds_to_deadline
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import intstr_pb2 as intstr

NOW = 1_700_000_000.0


def deployment(replicas: int, surge="25%", unavailable="25%", image="web:1") -> apps.Deployment:
    result = apps.Deployment()
    result.metadata.name, result.metadata.namespace, result.metadata.uid = "web", "default", "d"
    result.metadata.generation = 1
    result.spec.replicas = replicas
    result.spec.progressDeadlineSeconds = 600
    result.spec.selector.matchLabels["app"] = "web"
    result.spec.template.metadata.labels["app"] = "web"
    result.spec.template.spec.containers.add(name="web", image=image)
    result.spec.strategy.type = "RollingUpdate"
    for field, value in (("maxSurge", surge), ("maxUnavailable", unavailable)):
        wanted = (
            intstr.IntOrString(type=1, strVal=value) if isinstance(value, str) else intstr.IntOrString(intVal=value)
        )
        if not isinstance(value, str):
            wanted.type = 0
        getattr(result.spec.strategy.rollingUpdate, field).CopyFrom(wanted)
    return result


def rs(name: str, replicas: int, available=None, image="web:1", created=1, revision="") -> apps.ReplicaSet:
    result = apps.ReplicaSet()
    result.metadata.name, result.metadata.uid, result.metadata.creationTimestamp.seconds = name, name, created
    result.spec.replicas = result.status.replicas = replicas
    result.status.availableReplicas = result.status.readyReplicas = replicas if available is None else available
    result.spec.template.metadata.labels.update({"app": "web", "pod-template-hash": name})
    result.spec.template.spec.containers.add(name="web", image=image)
    if revision:
        result.metadata.annotations[REVISION] = revision
    return result


@pytest.mark.parametrize(
    "replicas, surge, unavailable, expected",
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (3, "0%", "10%", (0, 1)),
        (4, 1, 0, (1, 0)),
        (0, "25%", "25%", (0, 1)),
        (100, "30%", "1%", (30, 1)),
    ],
)
def test_surge_rounds_up_and_unavailable_down(replicas, surge, unavailable, expected) -> None:
    assert fenceposts(deployment(replicas, surge, unavailable)) == expected


def test_max_unavailable_is_never_more_than_replicas() -> None:
    assert max_unavailable(deployment(2, 0, 5)) == 2
    assert max_unavailable(deployment(0)) == 0


@pytest.mark.parametrize(
    "replicas, surge, unavailable, old, new, expected",
    [
        (10, 0, 5, 10, 0, None),
        (10, 2, 5, 10, 0, 2),
        (10, 5, 0, 5, 5, 10),
        (10, 5, 0, 10, 2, 5),
        (10, 2, 0, 0, 12, 10),
        (10, 2, 0, 2, 10, None),
    ],
)
def test_new_set_grows_within_the_surge(replicas, surge, unavailable, old, new, expected) -> None:
    sets = ReplicaSets(rs("new", new), (rs("old", old),))
    resizes = plan.plan_new(deployment(replicas, surge, unavailable), sets)
    assert [resize.replicas for resize in resizes] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    "replicas, unavailable, old, old_available, new, new_available, expected",
    [
        (10, 0, 10, 10, 0, 0, None),
        (10, 2, 10, 10, 0, 0, 8),
        (10, 2, 8, 8, 3, 0, None),
        (10, 2, 8, 8, 3, 3, 5),
        (10, 2, 10, 8, 0, 0, 8),
        (10, 2, 10, 6, 0, 0, 8),
        (10, 0, 1, 1, 10, 9, None),
        (10, 0, 1, 1, 10, 10, 0),
    ],
)
def test_old_sets_shrink_as_far_as_availability_allows(
    replicas, unavailable, old, old_available, new, new_available, expected
) -> None:
    sets = ReplicaSets(rs("new", new, new_available), (rs("old", old, old_available),))
    resizes = plan.plan_old(deployment(replicas, 3, unavailable), sets)
    assert [resize.replicas for resize in resizes] == ([] if expected is None else [expected])


def test_a_whole_rollout_never_leaves_the_bounds() -> None:
    wanted = deployment(10, image="web:2")
    sets = ReplicaSets(rs("new", 0, image="web:2"), (rs("old", 10),))
    surge, unavailable = fenceposts(wanted)
    for _ in range(50):
        resizes = plan.plan_new(wanted, sets) or plan.plan_old(wanted, sets)
        if not resizes:
            break
        for resize in resizes:
            resize.replica_set.spec.replicas = resize.replicas
        assert sum(s.spec.replicas for s in sets.all) <= 10 + surge
        for one in sets.all:
            one.status.availableReplicas = min(one.status.availableReplicas, one.spec.replicas)
        assert sum(s.status.availableReplicas for s in sets.all) >= 10 - unavailable
        for one in sets.all:
            one.status.replicas = one.status.availableReplicas = one.spec.replicas
    assert [s.spec.replicas for s in sets.all] == [0, 10]


def test_resizing_half_way_keeps_the_proportions() -> None:
    wanted = deployment(20, 0, 0)
    old, new = rs("old", 6), rs("new", 4, created=2)
    before = deployment(10, 0, 0)
    for one in (old, new):
        annotate_sizes(before, one)
    sets = ReplicaSets(new, (old,))
    assert plan.is_resized(wanted, sets)
    sizes = {resize.replica_set.metadata.name: resize.replicas for resize in plan.plan_scale(wanted, sets)}
    assert sizes == {"old": 12, "new": 8}


def test_a_single_set_takes_the_whole_size() -> None:
    sets = ReplicaSets(rs("new", 3), (rs("old", 0),))
    assert plan.plan_scale(deployment(7), sets) == [plan.Resize(sets.new, 7)]


def test_the_set_with_the_same_template_is_the_new_one() -> None:
    old, new = rs("old", 1, image="web:0"), rs("new", 1, created=5)
    sets = sort_out(deployment(1), [new, old])
    assert sets.new is new
    assert sets.old == (old,)
    assert sort_out(deployment(1, image="web:9"), [new, old]).new is None


def test_a_new_set_carries_hash_owner_revision_and_sizes() -> None:
    wanted = deployment(10, image="web:2")
    wanted.metadata.annotations["team"] = "x"
    wanted.metadata.annotations[REVISION] = "3"
    created = new_replica_set(wanted, ReplicaSets(None, (rs("old", 10, revision="3"),)))
    digest = created.metadata.labels["pod-template-hash"]
    assert created.metadata.name == f"web-{digest}"
    assert created.spec.selector.matchLabels["pod-template-hash"] == digest
    assert created.spec.template.metadata.labels["pod-template-hash"] == digest
    assert dict(created.metadata.annotations) == {
        "team": "x",
        REVISION: "4",
        "deployment.kubernetes.io/desired-replicas": "10",
        "deployment.kubernetes.io/max-replicas": "13",
    }
    assert created.spec.replicas == 3
    assert sort_out(wanted, [created]).new is created


def test_rolling_back_gives_the_old_set_a_new_revision() -> None:
    first, second = rs("one", 0, revision="1"), rs("two", 3, image="web:2", created=2, revision="2")
    sets = sort_out(deployment(3), [first, second])
    assert sets.new is first
    assert annotate_new(deployment(3), first, next_revision(sets), existed=True)
    assert first.metadata.annotations[REVISION] == "3"
    assert first.metadata.annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert not annotate_new(deployment(3), first, next_revision(sets), existed=True)


def test_history_beyond_the_limit_expires_oldest_revision_first() -> None:
    wanted = deployment(1)
    wanted.spec.revisionHistoryLimit = 1
    old = [rs("c", 0, revision="3"), rs("a", 0, revision="1"), rs("b", 2, revision="2")]
    assert [one.metadata.name for one in expired_sets(wanted, old)] == ["a"]


def conditions(status: apps.DeploymentStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions}


def test_conditions_through_a_rollout_that_gets_stuck_and_recovers() -> None:
    wanted = deployment(3)
    new = rs("web-abc", 3, 0)
    sets = ReplicaSets(new, ())
    wanted.status.CopyFrom(rollout_status(wanted, sets, NOW))
    assert conditions(wanted.status) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
    assert seconds_to_deadline(wanted, wanted.status, NOW + 100) == 501
    wanted.status.CopyFrom(rollout_status(wanted, sets, NOW + 601))
    assert conditions(wanted.status)["Progressing"] == ("False", "ProgressDeadlineExceeded")
    message = next(c.message for c in wanted.status.conditions if c.type == "Progressing")
    assert message == 'ReplicaSet "web-abc" has timed out progressing.'
    new.status.availableReplicas = new.status.readyReplicas = 3
    wanted.status.CopyFrom(rollout_status(wanted, sets, NOW + 700))
    assert conditions(wanted.status) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert (wanted.status.replicas, wanted.status.updatedReplicas, wanted.status.unavailableReplicas) == (3, 3, 0)
    assert seconds_to_deadline(wanted, wanted.status, NOW + 700) is None


def test_recreate_waits_for_old_pods() -> None:
    from tillerman.pb.k8s import core_v1_pb2 as core

    running, done = core.Pod(), core.Pod()
    running.status.phase, done.status.phase = "Running", "Succeeded"
    new = rs("new", 1)
    assert plan.old_pods_running(new, [("old", running)])
    assert not plan.old_pods_running(new, [("old", done), ("new", running)])
