"""The arrays, kept current event by event, equal what counting everything anew gives."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduling import Bench, make_node, make_pod

from services.scheduler.framework import Evaluation
from services.scheduler.snapshot import Snapshot
from services.scheduler.terms import pod_selector
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta

NODES = [f"n{i}" for i in range(4)]
PODS = [f"p{i}" for i in range(8)]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(["a", "b"])),
        st.tuples(st.just("no node"), st.sampled_from(NODES), st.just("")),
        st.tuples(st.just("pod"), st.sampled_from(PODS), st.sampled_from(NODES)),
        st.tuples(st.just("terminating"), st.sampled_from(PODS), st.sampled_from(NODES)),
        st.tuples(st.just("no pod"), st.sampled_from(PODS), st.just("")),
    ),
    max_size=40,
)


def numbered_pod(name: str, node: str, *, terminating: bool) -> core.Pod:
    number = int(name[1:])

    def change(pod: core.Pod) -> None:
        if terminating:
            pod.metadata.deletionTimestamp.seconds = 1
        if number % 3 == 0:
            anti = pod.spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution
            anti.add(topologyKey="zone").labelSelector.matchLabels["app"] = "x"

    return make_pod(
        name,
        cpu=f"{number + 1}00m",
        node=node,
        owner=f"o{number % 2}",
        labels={"app": "x" if number % 2 else "y"},
        host_port=8000 + number % 2,
        change=change,
    )


@settings(max_examples=60, deadline=None)
@given(steps)
def test_event_by_event_equals_all_at_once(steps: list[tuple[str, str, str]]) -> None:
    bench = Bench()
    selector = pod_selector(["default"], meta.LabelSelector(matchLabels={"app": "x"}))
    bench.snapshot.counters.selected(selector, with_terminating=False)
    nodes: dict[str, str] = {}
    pods: dict[str, tuple[str, bool]] = {}
    for kind, name, argument in steps:
        if kind == "node":
            nodes[name] = argument
            bench.observer.node_set(make_node(name, labels={"zone": argument}))
        elif kind == "no node":
            nodes.pop(name, None)
            bench.observer.node_gone(make_node(name))
        elif kind == "no pod":
            if name in pods:
                node, terminating = pods.pop(name)
                bench.observer.pod_gone(numbered_pod(name, node, terminating=terminating))
        else:
            pods[name] = (argument, kind == "terminating")
            bench.observer.pod_set(numbered_pod(name, argument, terminating=kind == "terminating"))
        compare(bench, nodes, pods, selector)


def compare(bench: Bench, nodes: dict[str, str], pods: dict[str, tuple[str, bool]], selector: Any) -> None:
    snapshot = bench.snapshot
    assert set(snapshot.row_of) == set(nodes) | {node for node, _ in pods.values()}
    counter = snapshot.counters.selected(selector, with_terminating=False)
    owners = snapshot.counters.owned_by("o1")
    for name, row in snapshot.row_of.items():
        there = {pod: terminating for pod, (node, terminating) in pods.items() if node == name}
        numbers = [int(pod[1:]) for pod in there]
        lasting = [int(pod[1:]) for pod, terminating in there.items() if not terminating]
        assert snapshot.requested[0, row] == sum(100 * (number + 1) for number in numbers)
        assert snapshot.requested[3, row] == len(numbers)
        assert counter.counts[row] == owners.counts[row] == sum(number % 2 for number in lasting)
        taken = snapshot.ports.taken([("TCP", "0.0.0.0", 8001)], snapshot.size)
        assert taken[row] == any(number % 2 for number in numbers)
        assert snapshot.present[row] == (name in nodes)
    assert snapshot.node_count == len(nodes)
    held = {term.topology_key: counter.total for term, counter in snapshot.counters.held_terms()}
    holders = sum(int(pod[1:]) % 3 == 0 for pod in pods)
    assert held == ({"zone": holders} if holders else {})
    column = snapshot.label_column("zone")
    sums = counter.per_domain(column, snapshot.size, snapshot.epoch)
    np.testing.assert_array_equal(sums, column.per_domain(counter.counts, snapshot.size))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.booleans(), st.integers(0, 1000))
def test_repaired_answers_equal_fresh_ones(order: list[int], spread: bool, seed: int) -> None:
    """An evaluation that is repaired after each placement chooses among the same nodes as one made anew."""
    bench = Bench()
    bench.nodes(*[make_node(f"n{i}", cpu=f"{1 + (seed + i) % 3}", labels={"zone": "ab"[i % 2]}) for i in range(5)])

    def change(pod: core.Pod) -> None:
        if spread:
            constraint = pod.spec.topologySpreadConstraints.add(
                maxSkew=1, topologyKey="zone", whenUnsatisfiable="DoNotSchedule"
            )
            constraint.labelSelector.matchLabels["app"] = "x"

    infos = [
        bench.templates.info(make_pod(f"p{i}", cpu="300m", labels={"app": "x"}, owner="o", change=change))
        for i in range(len(order))
    ]
    kept = Evaluation(bench.profile, infos[0].template, bench.snapshot)
    for info in infos:
        fresh = Evaluation(bench.profile, info.template, bench.snapshot)
        bench.profile.rng.seed(seed)
        expected = fresh.pick()
        bench.profile.rng.seed(seed)
        row = kept.pick()
        assert row == expected
        if row is None:
            return
        bench.snapshot.add_pod(info.on(bench.snapshot.names[row]))
        kept.placed(row)


def test_trials_leave_no_trace() -> None:
    bench, snapshot = Bench(), Snapshot()
    snapshot.set_node(make_node("n1"))
    info = bench.templates.info(make_pod("p", cpu="1", host_port=80)).on("n1")
    before = snapshot.requested.copy()
    with snapshot.reserving([info]):
        assert snapshot.requested[0, 0] == 1000
    np.testing.assert_array_equal(before, snapshot.requested)
    snapshot.add_pod(info)
    with snapshot.without([info]):
        np.testing.assert_array_equal(before, snapshot.requested)
    assert snapshot.requested[0, 0] == 1000
