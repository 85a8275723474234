"""DaemonSets, StatefulSets and budgets: which pods next."""

import pytest

from services.controller.daemonset import plan as daemons
from services.controller.disruption import plan_status as plan_budget
from services.controller.history import REVISION_LABEL, is_same, surplus, template_data
from services.controller.statefulset import plan as stateful
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy

NOW = 1_700_000_000.0


def node(name: str, **labels: str) -> core.Node:
    result = core.Node()
    result.metadata.name = name
    result.metadata.labels.update(labels)
    return result


def pod(name: str, *, on="", digest="new", ready=True, phase="Running", going=False) -> core.Pod:
    result = core.Pod()
    result.metadata.name = result.metadata.uid = name
    result.metadata.labels[REVISION_LABEL] = digest
    result.spec.nodeName = on
    result.status.phase = phase
    condition = result.status.conditions.add(type="Ready", status="True" if ready else "False")
    condition.lastTransitionTime.seconds = int(NOW - 100)
    if going:
        result.metadata.deletionTimestamp.seconds = 1
    return result


def names(pods: list[core.Pod]) -> list[str]:
    return [one.metadata.name for one in pods]


def test_a_daemon_goes_where_it_fits() -> None:
    daemon = apps.DaemonSet()
    daemon.spec.template.spec.nodeSelector["disk"] = "ssd"
    tainted = node("tainted", disk="ssd")
    tainted.spec.taints.add(key="dedicated", effect="NoSchedule")
    cordoned = node("cordoned", disk="ssd")
    cordoned.spec.taints.add(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
    evicting = node("evicting", disk="ssd")
    evicting.spec.taints.add(key="maintenance", effect="NoExecute")
    fits = {one.metadata.name: daemons.should_run(daemon, one) for one in (node("plain"), tainted, cordoned, evicting)}
    assert fits == {
        "plain": (False, False),
        "tainted": (False, True),
        "cordoned": (True, True),
        "evicting": (False, False),
    }


def test_daemon_pods_are_created_replaced_and_removed() -> None:
    nodes = [node("a"), node("b"), node("c")]
    present = [
        pod("on-a", on="a"),
        pod("twice", on="a", ready=False),
        pod("failed", on="b", phase="Failed"),
        pod("lost", on="gone"),
    ]
    plan = daemons.plan_daemons(apps.DaemonSet(), nodes, present)
    assert plan.create == ["c"]
    assert sorted(names(plan.delete)) == ["failed", "lost", "twice"]


def test_a_daemon_is_rolled_over_within_its_bounds() -> None:
    daemon = apps.DaemonSet()
    daemon.spec.updateStrategy.rollingUpdate.maxUnavailable.intVal = 2
    daemon.spec.updateStrategy.rollingUpdate.maxUnavailable.type = 0
    nodes = [node(name) for name in "abcd"]
    old = [pod(name, on=name, digest="old") for name in "abcd"]
    assert names(daemons.plan_rollout(daemon, nodes, old, "new", NOW).delete) == ["a", "b"]
    old[3].status.conditions[0].status = "False"
    assert names(daemons.plan_rollout(daemon, nodes, old, "new", NOW).delete) == ["d", "a"]


def test_a_daemon_with_surge_starts_the_new_pod_first() -> None:
    daemon = apps.DaemonSet()
    daemon.spec.updateStrategy.rollingUpdate.maxSurge.intVal = 1
    daemon.spec.updateStrategy.rollingUpdate.maxSurge.type = 0
    nodes = [node("a"), node("b")]
    old = [pod("oa", on="a", digest="old"), pod("ob", on="b", digest="old")]
    first = daemons.plan_rollout(daemon, nodes, old, "new", NOW)
    assert (first.create, names(first.delete)) == (["a"], [])
    second = daemons.plan_rollout(daemon, nodes, [*old, pod("na", on="a")], "new", NOW)
    assert (second.create, names(second.delete)) == (["b"], ["oa"])


def stateful_set(replicas: int, **spec: str) -> apps.StatefulSet:
    result = apps.StatefulSet()
    result.metadata.name = "db"
    result.spec.replicas = replicas
    for name, value in spec.items():
        setattr(result.spec, name, value)
    return result


@pytest.mark.parametrize(
    "present, create, delete",
    [
        ([], [0], []),
        ([pod("db-0", ready=False)], [], []),
        ([pod("db-0")], [1], []),
        ([pod("db-0"), pod("db-2")], [1], []),
        ([pod("db-0", phase="Failed")], [], ["db-0"]),
        ([pod("db-0", going=True)], [], []),
        ([pod(f"db-{n}") for n in range(5)], [], ["db-4"]),
        ([pod(f"db-{n}", digest="old") for n in range(3)], [], ["db-2"]),
        ([pod("db-0", digest="old"), pod("db-1", digest="old"), pod("db-2")], [], ["db-1"]),
    ],
)
def test_one_step_at_a_time_in_order(present, create, delete) -> None:
    plan = stateful.plan_stateful(stateful_set(3), present, "new", NOW)
    assert ([number for number, _ in plan.create], names(plan.delete)) == (create, delete)


def test_parallel_sets_do_all_at_once() -> None:
    plan = stateful.plan_stateful(stateful_set(3, podManagementPolicy="Parallel"), [pod("db-5")], "new", NOW)
    assert [number for number, _ in plan.create] == [0, 1, 2]
    assert names(plan.delete) == ["db-5"]


def test_a_partition_holds_the_update_back() -> None:
    held = stateful_set(3)
    held.spec.updateStrategy.rollingUpdate.partition = 2
    old = [pod(f"db-{n}", digest="old") for n in range(3)]
    assert names(stateful.plan_stateful(held, old, "new", NOW).delete) == ["db-2"]
    done = [*old[:2], pod("db-2")]
    assert names(stateful.plan_stateful(held, done, "new", NOW).delete) == []
    again = stateful.plan_stateful(held, [old[0]], "new", NOW)
    assert again.create == [(1, False)]


def test_identity_and_claims() -> None:
    owner = stateful_set(1, serviceName="svc")
    owner.spec.volumeClaimTemplates.add().metadata.name = "data"
    made = stateful.make_pod(owner, 0, core.PodTemplateSpec(), "new")
    assert (made.metadata.name, made.spec.hostname, made.spec.subdomain) == ("db-0", "db-0", "svc")
    assert made.spec.volumes[0].volumeSource.persistentVolumeClaim.claimName == "data-db-0"
    assert names(stateful.make_claims(owner, 0)) == ["data-db-0"]


def test_revisions_compare_by_content() -> None:
    template = core.PodTemplateSpec()
    template.metadata.labels["a"] = "b"
    revision = apps.ControllerRevision()
    revision.data.raw = template_data(template)
    assert is_same(revision, template_data(template))
    template.metadata.labels["a"] = "c"
    assert not is_same(revision, template_data(template))
    assert surplus([revision, revision, revision], 1) == [revision, revision]


def test_budgets() -> None:
    budget = policy.PodDisruptionBudget()
    budget.spec.minAvailable.type, budget.spec.minAvailable.intVal = 0, 2
    pods = [pod("a"), pod("b"), pod("c"), pod("d", ready=False)]
    status = plan_budget(budget, pods, 4, NOW)
    assert (status.currentHealthy, status.desiredHealthy, status.disruptionsAllowed) == (3, 2, 1)
    budget.status.disruptedPods["a"].seconds = int(NOW - 5)
    status = plan_budget(budget, pods, 4, NOW)
    assert (status.currentHealthy, status.disruptionsAllowed) == (2, 0)
    assert status.conditions[0].reason == "InsufficientPods"
    assert not plan_budget(budget, pods, 4, NOW + 200).disruptedPods
