"""The scheduler as a whole: assuming, outcomes of binds, restarts, preemption, gates, priorities."""

import asyncio

from scheduling import Bench, make_node, make_pod

from services.scheduler.servicer import SchedulerServicer
from tillerman.api import status
from tillerman.pb.api import scheduler_pb2 as pb
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy


def test_bound_pods_leave_the_queue_and_are_told(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p"))
    ((_, outcome),) = bench.writes.bindings
    outcome(None)
    assert bench.events.events == [("p", "Scheduled", "Successfully assigned default/p to n1")]
    assert len(bench.queue) == 0
    assert "default/p" in bench.scheduler.assumed
    bench.pods(make_pod("p"))
    assert len(bench.queue) == 0, "a late event from before the bind changes nothing"
    bench.pods(make_pod("p", node="n1"))
    assert not bench.scheduler.assumed
    assert bench.snapshot.requested[3, 0] == 1


def test_the_informer_may_be_faster_than_the_answer(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p"))
    bench.pods(make_pod("p", node="n1"))
    ((_, outcome),) = bench.writes.bindings
    outcome(status.conflict("pods/binding", "p"))
    assert bench.snapshot.pod("default/p") is not None
    assert len(bench.queue) == 0


def test_a_refused_bind_gives_the_room_back_and_is_tried_again(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.schedule(make_pod("p", cpu="1"))
    ((_, outcome),) = bench.writes.bindings
    outcome(status.internal("etcd is away"))
    assert bench.snapshot.requested[0, 0] == 0
    queued = bench.queue.get("default/p")
    assert queued is not None and queued.place == "backoff"
    assert bench.queue.pop(10) == [], "an error is waited out"


async def test_the_back_off_ends(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p"))
    bench.writes.bindings.pop()[1](status.internal("etcd is away"))
    await bench.clock.advance(0.9)
    assert bench.queue.pop(1) == []
    await bench.clock.advance(0.2)
    assert bench.scheduler.cycle() == 1
    assert bench.writes.placements == {"p": "n1"}


def test_a_pod_that_is_gone_is_not_tried_again(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p"))
    bench.writes.bindings[0][1](status.not_found("pods", "p"))
    assert len(bench.queue) == 0
    assert bench.snapshot.pod("default/p") is None


def test_a_new_pod_of_the_same_name(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p", uid="1"))
    bench.observer.pod_changed(make_pod("p", uid="1"), make_pod("p", uid="2"))
    bench.scheduler.cycle()
    assert [info.uid for info, _ in bench.writes.bindings] == ["1", "2"]
    bench.writes.bindings[0][1](status.conflict("pods/binding", "p"))
    assert bench.scheduler.assumed["default/p"].uid == "2"


def test_other_schedulers_pods_only_count(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.pods(make_pod("p", change=lambda p: setattr(p.spec, "schedulerName", "other")))
    assert len(bench.queue) == 0
    bench.pods(make_pod("q", cpu="1", node="n1", change=lambda p: setattr(p.spec, "schedulerName", "other")))
    bench.schedule(make_pod("r", cpu="1"))
    assert "Insufficient cpu" in bench.message("r")


async def test_finished_pods_free_their_node(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.pods(make_pod("job", cpu="1", node="n1"))
    bench.schedule(make_pod("p", cpu="1"))
    bench.pods(make_pod("job", cpu="1", node="n1", change=lambda p: setattr(p.status, "phase", "Succeeded")))
    assert await bench.later() == {"p": "n1"}


def test_priority_goes_first(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    placed = bench.schedule(make_pod("low", cpu="1"), make_pod("high", cpu="1", priority=10))
    assert placed == {"high": "n1"}


def test_gates_hold_and_let_go(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    bench.schedule(make_pod("p", change=lambda p: p.spec.schedulingGates.add(name="example.com/wait")))
    assert bench.queue.count("gated") == 1
    assert bench.schedule(make_pod("p")) == {"p": "n1"}


async def test_unschedulable_is_told_once_per_attempt(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.schedule(make_pod("p", cpu="2"))
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
        "1 Preemption is not helpful for scheduling."
    )
    assert bench.writes.unschedulable == [("p", message, "Unschedulable", "")]
    assert bench.events.events == [("p", "FailedScheduling", message)]
    bench.nodes(make_node("n1", cpu="1"))
    assert bench.queue.count("unschedulable") == 1, "a heartbeat changes nothing"
    bench.nodes(make_node("n2", cpu="4"))
    assert bench.schedule() == {} and bench.scheduler.cycle() == 0
    await bench.clock.advance(0.06)
    assert bench.scheduler.cycle() == 1, "early, as nothing else is to be done"
    assert bench.writes.placements == {"p": "n2"}


async def test_the_queue_wakes_for_what_may_be_tried_early(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.schedule(make_pod("p", cpu="2"))
    waiting = asyncio.ensure_future(bench.queue.wait())
    await bench.clock.advance(5)
    assert not waiting.done()
    bench.schedule(make_pod("q", cpu="3"))
    bench.nodes(make_node("n2", cpu="4"))
    assert bench.queue.count("active") == 1 and bench.queue.count("backoff") == 1
    bench.scheduler.cycle()
    waiting = asyncio.ensure_future(bench.queue.wait())
    await bench.clock.advance(0.04)
    assert not waiting.done()
    await bench.clock.advance(0.02)
    assert waiting.done()
    await waiting


async def test_unschedulable_pods_are_tried_again_after_five_minutes(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"))
    bench.schedule(make_pod("p", cpu="2"))
    await bench.clock.advance(299)
    bench.queue.flush()
    assert bench.queue.count("unschedulable") == 1
    await bench.clock.advance(2)
    bench.queue.flush()
    assert bench.queue.count("active") == 1


async def test_preemption_takes_the_least(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="2"), make_node("n2", cpu="2"))
    bench.pods(
        make_pod("a", cpu="1", node="n1", priority=5),
        make_pod("b", cpu="1", node="n1", priority=1),
        make_pod("c", cpu="2", node="n2", priority=5),
    )
    bench.schedule(make_pod("high", cpu="1", priority=10))
    assert bench.writes.evicted == ["b"]
    assert bench.writes.unschedulable[0][3] == "n1"
    assert ("b", "Preempted", "Preempted by pod uid-high on node n1") in bench.events.events
    assert bench.snapshot.requested[0, bench.snapshot.row_of["n1"]] == 2000, "the plan leaves no trace"

    bench.observer.pod_gone(make_pod("b", cpu="1", node="n1", priority=1))
    bench.pods(make_pod("thief", cpu="1", priority=2))
    assert await bench.later() == {"high": "n1"}, "the room is kept for whom it was made"
    assert not bench.scheduler.nominated


def test_preemption_spares_budgets_and_the_unwilling(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"), make_node("n2", cpu="1"))
    bench.pods(
        make_pod("guarded", cpu="1", node="n1", labels={"app": "g"}), make_pod("free", cpu="1", node="n2", priority=3)
    )
    budget = policy.PodDisruptionBudget()
    budget.metadata.namespace = "default"
    budget.spec.selector.matchLabels["app"] = "g"
    bench.budgets.append(budget)
    bench.schedule(make_pod("meek", cpu="1", priority=9, change=lambda p: setattr(p.spec, "preemptionPolicy", "Never")))
    assert bench.writes.evicted == []
    assert bench.message("meek").endswith("preemption: not eligible due to preemptionPolicy=Never.")
    bench.schedule(make_pod("high", cpu="1", priority=10))
    assert bench.writes.evicted == ["free"]


async def test_victims_on_their_way_out_are_waited_for(bench: Bench) -> None:
    bench.nodes(make_node("n1", cpu="1"), make_node("n2", cpu="1"))
    bench.pods(make_pod("a", cpu="1", node="n1"), make_pod("b", cpu="1", node="n2", priority=2))
    bench.schedule(make_pod("high", cpu="1", priority=10))
    assert bench.writes.evicted == ["a"]
    leaving = make_pod("a", cpu="1", node="n1", change=lambda p: p.metadata.deletionTimestamp.SetInParent())
    bench.pods(leaving)
    await bench.later()
    assert bench.writes.evicted == ["a"]


def test_a_restart_rebuilds_everything_from_the_informers(bench: Bench) -> None:
    bench.pods(make_pod("p", cpu="1", node="n1"), make_pod("q", cpu="1"))
    bench.nodes(make_node("n1", cpu="1"))
    bench.schedule()
    assert "1 Insufficient cpu" in bench.message("q")


def test_nodes_come_and_go(bench: Bench) -> None:
    bench.nodes(*[make_node(f"n{i}") for i in range(200)])
    bench.pods(make_pod("p", cpu="1", node="n7"))
    bench.observer.node_gone(make_node("n7"))
    assert bench.snapshot.node_count == 199
    bench.observer.pod_gone(make_pod("p", cpu="1", node="n7"))
    assert "n7" not in bench.snapshot.row_of
    bench.nodes(make_node("new"))
    row = bench.snapshot.row_of["new"]
    assert bench.snapshot.requested[:, row].sum() == 0
    assert len(bench.schedule(*[make_pod(f"x{i}", owner="o") for i in range(400)])) == 400
    per_node = [len(pods) for pods in bench.snapshot.pods_on if pods]
    assert per_node == [2] * 200


def test_explain_and_simulate(bench: Bench) -> None:
    servicer = SchedulerServicer(bench.scheduler, bench.templates, lambda _: None, bench.clock)
    bench.nodes(make_node("n1", cpu="1"), make_node("n2", cpu="4", taints=(("k", "v", "NoSchedule"),)))
    big = make_pod("big", cpu="2")
    bench.schedule(big)
    told = servicer.explain(bench.templates.info(big))
    assert told.state == "Unschedulable"
    assert [(v.node, v.plugin, list(v.reasons)) for v in told.nodes] == [
        ("n1", "NodeResourcesFit", ["Insufficient cpu"]),
        ("n2", "TaintToleration", ["node(s) had untolerated taint {k: v}"]),
    ]
    assert told.attempts == 1
    small = make_pod("small", cpu="1")
    bench.schedule(small)
    told = servicer.explain(bench.templates.info(small))
    assert (told.state, told.node) == ("Scheduled", "n1")
    assert told.nodes[0].feasible and told.nodes[0].total_score > 0


async def test_simulate_leaves_no_trace(bench: Bench) -> None:
    servicer = SchedulerServicer(bench.scheduler, bench.templates, lambda _: None, bench.clock)
    bench.nodes(make_node("n1", cpu="1"), make_node("n2", cpu="1"))
    request = pb.SimulateRequest(pods=[make_pod(f"p{i}", cpu="1") for i in range(3)])
    pinned = make_pod("pinned", node="n1")
    request.pods.insert(0, pinned)
    response = await servicer.Simulate(request, None)
    assert response.placements[0].node == "n1"
    assert sorted(p.node for p in response.placements[1:]) == ["", "n1", "n2"]
    assert "2 Insufficient cpu" in response.placements[3].message
    assert bench.snapshot.requested[:, : bench.snapshot.size].sum() == 0
    queue = await servicer.Queue(pb.QueueRequest(), None)
    assert len(queue.items) == 0


def test_the_default_scheduler_name(bench: Bench) -> None:
    bench.nodes(make_node("n1"))
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace, pod.metadata.uid = "bare", "default", "u"
    assert bench.schedule(pod) == {"bare": "n1"}
