"""Autoscaling arithmetic: usage to replicas, and how fast they are followed."""

import pytest

from services.controller.autoscaling.behavior import History, Policy, Rules, decide, down_rules, up_rules
from services.controller.autoscaling.replicas import (
    Caution,
    MetricsError,
    Sample,
    by_average,
    by_utilization,
    group_pods,
    requests_of,
)
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def pod(name: str, *, ready=True, started=1000, changed=None, phase="Running", request="1000m") -> core.Pod:
    result = core.Pod()
    result.metadata.name = name
    result.status.phase = phase
    result.status.startTime.seconds = int(NOW - started)
    condition = result.status.conditions.add(type="Ready", status="True" if ready else "False")
    condition.lastTransitionTime.seconds = int(NOW - (started if changed is None else changed))
    container = result.spec.containers.add(name="c")
    if request:
        container.resources.requests["cpu"].string = request
    return result


def utilization(pods, usage: dict[str, int], target=50, current=None, tolerance=0.1):
    samples = {name: Sample(value, NOW, 15.0) for name, value in usage.items()}
    groups = group_pods(pods, samples, "cpu", Caution(), NOW)
    return by_utilization(
        len(pods) if current is None else current,
        target,
        samples=samples,
        requests=requests_of(pods, "cpu"),
        groups=groups,
        tolerance=tolerance,
    )


@pytest.mark.parametrize(
    "usage, target, replicas, percent",
    [
        ({"a": 500, "b": 500}, 50, 2, 50),
        ({"a": 540, "b": 540}, 50, 2, 54),
        ({"a": 560, "b": 560}, 50, 3, 56),
        ({"a": 1000, "b": 1000}, 50, 4, 100),
        ({"a": 100, "b": 100}, 50, 1, 10),
        ({"a": 300, "b": 500}, 30, 3, 40),
    ],
)
def test_utilization(usage, target, replicas, percent) -> None:
    proposal = utilization([pod(name) for name in usage], usage, target)
    assert (proposal.replicas, proposal.utilization) == (replicas, percent)


def test_missing_pods_damp_both_directions() -> None:
    pods = [pod("a"), pod("b"), pod("c"), pod("d")]
    # Growing: the missing two count as idle. 2 x 1000 of 4 x 1000 is 50 %: no growth at a target of 50 %.
    assert utilization(pods, {"a": 1000, "b": 1000}).replicas == 4
    # Shrinking: the missing two count as fully used.
    assert utilization(pods, {"a": 100, "b": 100}).replicas == 4


def test_unready_pods_count_as_idle_when_growing() -> None:
    pods = [pod("a"), pod("b"), pod("c", phase="Pending")]
    assert utilization(pods, {"a": 1000, "b": 1000}).replicas == 4
    assert utilization(pods, {"a": 100, "b": 100}).replicas == 1


def test_a_starting_pods_cpu_is_not_believed() -> None:
    young = pod("young", started=20, changed=5)
    samples = {"young": Sample(1000, NOW, 15.0)}
    assert group_pods([young], samples, "cpu", Caution(), NOW).unready == {"young"}
    assert group_pods([young], samples, "cpu", Caution(), NOW + 20).unready == {"young"}
    fresh = {"young": Sample(1000, NOW + 20, 15.0)}
    assert group_pods([young], fresh, "cpu", Caution(), NOW + 20).ready == 1
    assert group_pods([young], samples, "memory", Caution(), NOW).ready == 1


def test_ended_and_terminating_pods_are_ignored() -> None:
    going = pod("going")
    going.metadata.deletionTimestamp.seconds = 1
    groups = group_pods([going, pod("failed", phase="Failed")], {}, "cpu", Caution(), NOW)
    assert groups.ignored == {"going", "failed"}


def test_errors_name_what_is_missing() -> None:
    with pytest.raises(MetricsError, match="missing request for cpu in container c of Pod a"):
        utilization([pod("a", request="")], {"a": 1})
    with pytest.raises(MetricsError, match="did not receive metrics"):
        utilization([pod("a")], {})


def test_average_value() -> None:
    pods = [pod("a"), pod("b")]
    samples = {"a": Sample(300, NOW, 15.0), "b": Sample(500, NOW, 15.0)}
    groups = group_pods(pods, samples, "cpu", Caution(), NOW)
    proposal = by_average(2, 200, samples=samples, groups=groups, tolerance=0.1)
    assert (proposal.replicas, proposal.average, proposal.utilization) == (4, 400, None)


FREE = Rules(0.0, "Max", (Policy("Percent", 10_000, 15.0),), 0.1)


def run(current, desired, *, up=FREE, down=FREE, history=None, now=NOW, minimum=1, maximum=100):
    return decide(
        current, desired, minimum=minimum, maximum=maximum, up=up, down=down, history=history or History(), now=now
    )


def test_bounds() -> None:
    over = run(8, 12, maximum=8)
    assert (over.replicas, over.limited[0], over.is_limited) == (8, "TooManyReplicas", True)
    under = run(3, 0, minimum=2)
    assert (under.replicas, under.limited[0]) == (2, "TooFewReplicas")
    within = run(3, 4)
    assert (within.replicas, within.limited[0], within.is_limited) == (4, "DesiredWithinRange", False)


def test_scaling_down_waits_for_the_window() -> None:
    down = down_rules(autoscaling.HorizontalPodAutoscalerSpec(), 300.0, 0.1)
    history = History()
    assert run(10, 10, down=down, history=history).replicas == 10
    waiting = run(10, 3, down=down, history=history, now=NOW + 299)
    assert (waiting.replicas, waiting.able[0]) == (10, "ScaleDownStabilized")
    assert run(10, 3, down=down, history=history, now=NOW + 301).replicas == 3


def test_scaling_up_with_a_window_takes_the_lowest_recommendation() -> None:
    up = Rules(60.0, "Max", (Policy("Percent", 10_000, 15.0),), 0.1)
    history = History([(NOW - 30, 4)])
    decision = run(3, 9, up=up, history=history)
    assert (decision.replicas, decision.able[0]) == (4, "ScaleUpStabilized")


def test_default_policies_double_or_add_four() -> None:
    up = up_rules(autoscaling.HorizontalPodAutoscalerSpec(), 0.1)
    assert run(1, 50, up=up).replicas == 5
    assert run(10, 50, up=up).replicas == 20
    assert run(10, 50, up=up).limited[0] == "ScaleUpLimit"


def test_a_policy_counts_what_its_period_has_seen() -> None:
    up = Rules(0.0, "Max", (Policy("Pods", 4, 60.0),), 0.1)
    history = History()
    assert run(2, 50, up=up, history=history).replicas == 6
    history.rescaled(NOW, 2, 6)
    assert run(6, 50, up=up, history=history, now=NOW + 30).replicas == 6
    assert run(6, 50, up=up, history=history, now=NOW + 60).replicas == 10


@pytest.mark.parametrize("select, up_to, down_to", [("Max", 14, 5), ("Min", 12, 9), ("Disabled", 10, 10)])
def test_select_policy(select, up_to, down_to) -> None:
    up = Rules(0.0, select, (Policy("Pods", 4, 60.0), Policy("Percent", 20, 60.0)), 0.1)
    down = Rules(0.0, select, (Policy("Pods", 1, 60.0), Policy("Percent", 50, 60.0)), 0.1)
    assert run(10, 90, up=up).replicas == up_to
    assert run(10, 1, down=down).replicas == down_to


def test_behavior_fields_override_the_defaults() -> None:
    spec = autoscaling.HorizontalPodAutoscalerSpec()
    spec.behavior.scaleDown.stabilizationWindowSeconds = 0
    spec.behavior.scaleDown.selectPolicy = "Min"
    spec.behavior.scaleDown.policies.add(type="Pods", value=1, periodSeconds=5)
    spec.behavior.scaleDown.tolerance.string = "50m"
    assert down_rules(spec, 300.0, 0.1) == Rules(0.0, "Min", (Policy("Pods", 1, 5.0),), 0.05)
