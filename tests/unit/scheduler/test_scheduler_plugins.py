"""Where pods may go and where they best go, by plugin."""

from collections import Counter
from typing import Any

import pytest
from scheduling import GIB, Bench, make_node, make_pod

from services.scheduler.arrays import Mask, Rows
from services.scheduler.framework import Profile
from services.scheduler.plugins.base import Plugin, Scope
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import Template
from tillerman.pb.k8s import core_v1_pb2 as core


def test_resources_are_filled_and_then_insufficient(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"), make_node("n2", cpu="1"))
    placed = bench.schedule(*[make_pod(f"p{i}", cpu="500m") for i in range(5)])
    assert Counter(placed.values()) == {"n1": 2, "n2": 2}
    waiting = next(f"p{i}" for i in range(5) if f"p{i}" not in placed)
    assert bench.message(waiting) == (
        "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
        "2 No preemption victims found for incoming pod."
    )


def test_all_reasons_of_a_node_are_told_and_taints_named(bench: Bench) -> None:
    bench.nodes(
        make_node("n1", cpu="1", memory="1Gi", pods="0"), make_node("n2", taints=(("key", "value", "NoSchedule"),))
    )
    bench.schedule(make_pod("p", cpu="2", memory="2Gi"))
    assert bench.message("p").startswith(
        "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, "
        "1 node(s) had untolerated taint {key: value}. preemption: "
        "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )


def test_no_nodes_at_all(bench: Bench) -> None:
    bench.schedule(make_pod("p"))
    assert bench.message("p") == "no nodes available to schedule pods"


def test_extended_resources(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2", **{"example.com/gpu": "2"}))
    placed = bench.schedule(*[make_pod(f"p{i}", **{"example.com/gpu": "1"}) for i in range(3)])
    assert set(placed.values()) == {"n2"}
    assert len(placed) == 2


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({}, False),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
        ({"operator": "Exists"}, True),
    ],
)
def test_tolerations(bench: Bench, toleration: dict[str, str], fits: bool) -> None:
    bench.nodes(make_node("n1", taints=(("k", "v", "NoSchedule"),)))
    pod = make_pod("p", change=lambda p: p.spec.tolerations.add(**toleration) if toleration else None)
    assert ("p" in bench.schedule(pod)) is fits


def test_prefer_no_schedule_only_pushes_away(bench: Bench) -> None:
    bench.nodes(make_node("n1", taints=(("k", "", "PreferNoSchedule"),)), make_node("n2", cpu="2"))
    assert bench.schedule(make_pod("p"))["p"] == "n2"


async def test_unschedulable_nodes_and_their_return(bench: Bench) -> None:
    bench.nodes(make_node("n1", unschedulable=True))
    bench.schedule(make_pod("p"))
    assert "1 node(s) were unschedulable" in bench.message("p")
    bench.nodes(make_node("n1"))
    queued = bench.queue.get("default/p")
    assert queued is not None and queued.place == "backoff"
    assert await bench.later() == {"p": "n1"}


def _affinity(*requirements: tuple[str, str, list[str]]) -> Any:
    def change(pod: core.Pod) -> None:
        required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
        term = required.nodeSelectorTerms.add()
        for key, operator, values in requirements:
            term.matchExpressions.add(key=key, operator=operator, values=values)

    return change


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (("disk", "In", ["ssd", "nvme"]), {"n1"}),
        (("disk", "NotIn", ["ssd"]), {"n2", "n3"}),
        (("disk", "Exists", []), {"n1", "n2"}),
        (("disk", "DoesNotExist", []), {"n3"}),
        (("size", "Gt", ["5"]), {"n2"}),
        (("size", "Lt", ["5"]), {"n1"}),
        (("size", "Gt", ["x"]), set()),
        (("unknown", "In", ["x"]), set()),
    ],
)
def test_node_affinity(bench: Bench, requirement: tuple[str, str, list[str]], expected: set[str]) -> None:
    bench.nodes(
        make_node("n1", labels={"disk": "ssd", "size": "1"}),
        make_node("n2", labels={"disk": "hdd", "size": "10"}),
        make_node("n3"),
    )
    template = bench.templates.template(make_pod("p", change=_affinity(requirement)))
    mask = bench.profile.node_mask(template, bench.snapshot)
    assert {bench.snapshot.names[row] for row in mask.nonzero()[0]} == expected


async def test_node_selector_and_labels_that_come_later(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2"))
    bench.schedule(make_pod("p", change=lambda p: p.spec.nodeSelector.update({"disk": "ssd"})))
    assert "2 node(s) didn't match Pod's node affinity/selector" in bench.message("p")
    bench.nodes(make_node("n2", labels={"disk": "ssd"}))
    assert await bench.later() == {"p": "n2"}


def test_match_fields_pick_a_node_by_name(bench: Bench) -> None:
    def change(pod: core.Pod) -> None:
        required = pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution
        required.nodeSelectorTerms.add().matchFields.add(key="metadata.name", operator="In", values=["n2"])

    bench.nodes(make_node("n1"), make_node("n2"), make_node("n3"))
    assert bench.schedule(make_pod("p", change=change)) == {"p": "n2"}


def test_preferred_node_affinity(bench: Bench) -> None:
    def change(pod: core.Pod) -> None:
        preferred = pod.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.add(weight=100)
        preferred.preference.matchExpressions.add(key="disk", operator="In", values=["ssd"])

    bench.nodes(make_node("n1", cpu="64"), make_node("n2", labels={"disk": "ssd"}), make_node("n3", cpu="64"))
    assert bench.schedule(make_pod("p", change=change)) == {"p": "n2"}


def test_host_ports_clash(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2"))
    placed = bench.schedule(*[make_pod(f"p{i}", host_port=8080) for i in range(3)])
    assert sorted(placed.values()) == ["n1", "n2"]
    waiting = next(f"p{i}" for i in range(3) if f"p{i}" not in placed)
    assert "2 node(s) didn't have free ports for the requested pod ports" in bench.message(waiting)


def test_three_replicas_spread_over_two_nodes(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2"))
    placed = bench.schedule(*[make_pod(f"p{i}", owner="rs") for i in range(3)])
    assert sorted(Counter(placed.values()).values()) == [1, 2]


def test_owned_pods_spread_over_zones(bench: Bench) -> None:
    zone = "topology.kubernetes.io/zone"
    bench.nodes(*[make_node(f"n{i}", labels={zone: "a" if i < 6 else "b"}) for i in range(8)])
    placed = bench.schedule(*[make_pod(f"p{i}", owner="rs") for i in range(4)])
    assert Counter("a" if int(node[1:]) < 6 else "b" for node in placed.values()) == {"a": 2, "b": 2}


def _spread(skew: int, key: str = "zone", hard: bool = True) -> Any:
    def change(pod: core.Pod) -> None:
        constraint = pod.spec.topologySpreadConstraints.add(
            maxSkew=skew, topologyKey=key, whenUnsatisfiable="DoNotSchedule" if hard else "ScheduleAnyway"
        )
        constraint.labelSelector.matchLabels["app"] = "x"

    return change


def test_hard_topology_spread(bench: Bench) -> None:
    bench.nodes(
        make_node("n1", labels={"zone": "a"}, cpu="100"),
        make_node("n2", labels={"zone": "b"}, cpu="1"),
        make_node("n3"),
    )
    pods = [make_pod(f"p{i}", cpu="500m", labels={"app": "x"}, change=_spread(1)) for i in range(6)]
    placed = bench.schedule(*pods)
    assert Counter(placed.values()) == {"n1": 3, "n2": 2}
    waiting = next(f"p{i}" for i in range(6) if f"p{i}" not in placed)
    message = bench.message(waiting)
    assert "1 node(s) didn't match pod topology spread constraints (missing required label)" in message
    assert "1 node(s) didn't match pod topology spread constraints," in message
    assert "1 Insufficient cpu" in message


def _anti(hard: bool = True, key: str = "kubernetes.io/hostname", app: str = "x") -> Any:
    def change(pod: core.Pod) -> None:
        anti = pod.spec.affinity.podAntiAffinity
        if hard:
            term = anti.requiredDuringSchedulingIgnoredDuringExecution.add(topologyKey=key)
        else:
            weighted = anti.preferredDuringSchedulingIgnoredDuringExecution.add(weight=50)
            term = weighted.podAffinityTerm
            term.topologyKey = key
        term.labelSelector.matchLabels["app"] = app

    return change


def test_anti_affinity_within_a_batch(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2"))
    placed = bench.schedule(*[make_pod(f"p{i}", labels={"app": "x"}, change=_anti()) for i in range(3)])
    assert sorted(placed.values()) == ["n1", "n2"]
    waiting = next(f"p{i}" for i in range(3) if f"p{i}" not in placed)
    assert "2 node(s) didn't match pod anti-affinity rules" in bench.message(waiting)


async def test_anti_affinity_of_pods_already_placed(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2", unschedulable=True))
    bench.pods(make_pod("holder", node="n1", change=_anti()))
    bench.schedule(make_pod("p", labels={"app": "x"}))
    assert "1 node(s) didn't satisfy existing pods anti-affinity rules" in bench.message("p")
    bench.observer.pod_gone(make_pod("holder", node="n1", change=_anti()))
    assert await bench.later() == {"p": "n1"}


def test_affinity_follows_and_the_first_of_a_group_may_begin(bench: Bench) -> None:
    def change(pod: core.Pod) -> None:
        required = pod.spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
        required.add(topologyKey="zone").labelSelector.matchLabels["app"] = "x"

    bench.nodes(*[make_node(f"n{i}", labels={"zone": "ab"[i % 2]}) for i in range(4)])
    placed = bench.schedule(*[make_pod(f"p{i}", labels={"app": "x"}, change=change) for i in range(6)])
    assert len(placed) == 6
    zones = {int(node[1:]) % 2 for node in placed.values()}
    assert len(zones) == 1
    placed = bench.schedule(make_pod("other", labels={"app": "y"}, change=change))
    assert int(placed["other"][1:]) % 2 in zones


def test_namespace_selector(bench: Bench) -> None:
    def change(pod: core.Pod) -> None:
        required = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
        term = required.add(topologyKey="kubernetes.io/hostname")
        term.labelSelector.SetInParent()
        term.namespaceSelector.matchLabels["team"] = "red"

    bench.nodes(make_node("n1"), make_node("n2"))
    bench.pods(make_pod("there", namespace="red", node="n1"))
    bench.snapshot.set_namespace("red", {"team": "red"})
    for number in range(3):
        assert bench.schedule(make_pod(f"p{number}", change=change))[f"p{number}"] == "n2"


def test_preferred_anti_affinity(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="6"), make_node("n2"))
    bench.pods(make_pod("there", labels={"app": "x"}, node="n1"))
    assert bench.schedule(make_pod("p", change=_anti(hard=False))) == {"p": "n2"}


def test_image_locality(bench: Bench) -> None:
    nodes = [make_node("n1"), make_node("n2")]
    nodes[1].status.images.add(names=["registry/app:latest"], sizeBytes=GIB)
    bench.nodes(*nodes)
    assert bench.schedule(make_pod("p", image="registry/app")) == {"p": "n2"}


def test_least_allocated(bench: Bench) -> None:
    bench.nodes(make_node("n1"), make_node("n2"))
    bench.pods(make_pod("big", cpu="3", memory="6Gi", node="n1"))
    assert bench.schedule(make_pod("p", cpu="100m")) == {"p": "n2"}


def test_a_plugin_of_ones_own(bench: Bench) -> None:
    class QuietHosts(Plugin):
        name = "QuietHosts"
        scope = Scope.NODES

        def filter(self, pod: Template, snapshot: Snapshot, rows: Rows) -> Mask | None:
            column = snapshot.label_column("noise")
            return column.ids[rows] != column.number("loud")

        def explain(self, pod: Template, snapshot: Snapshot, row: int) -> list[str]:
            return ["node(s) were too loud"]

    bench.scheduler.profile = Profile([*bench.profile.plugins, QuietHosts()])
    bench.nodes(make_node("n1", labels={"noise": "loud"}), make_node("n2", labels={"noise": "low"}))
    assert bench.schedule(make_pod("p")) == {"p": "n2"}
    bench.observer.node_gone(make_node("n2"))
    bench.schedule(make_pod("q"))
    assert bench.message("q").startswith("0/1 nodes are available: 1 node(s) were too loud.")
