"""How fast a recommendation may be followed: stabilisation windows and scaling policies.

`History` holds what this process has recommended and done for one autoscaler; times are epoch seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling

MAX_WINDOW = 3600.0


@dataclass(frozen=True)
class Policy:
    """`kind` is "Pods" or "Percent"."""

    kind: str
    value: int
    period: float


@dataclass(frozen=True)
class Rules:
    """One direction. `select` is "Max", "Min" or "Disabled"; `window` and `period` are seconds."""

    window: float
    select: str
    policies: tuple[Policy, ...]
    tolerance: float


@dataclass
class History:
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)

    def recommended(self, now: float, replicas: int) -> None:
        self.recommendations = [(t, v) for t, v in self.recommendations if t > now - MAX_WINDOW]
        self.recommendations.append((now, replicas))

    def rescaled(self, now: float, before: int, after: int) -> None:
        self.ups = [(t, v) for t, v in self.ups if t > now - MAX_WINDOW]
        self.downs = [(t, v) for t, v in self.downs if t > now - MAX_WINDOW]
        if after > before:
            self.ups.append((now, after - before))
        else:
            self.downs.append((now, before - after))


def up_rules(spec: autoscaling.HorizontalPodAutoscalerSpec, tolerance: float) -> Rules:
    defaults = (Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0))
    return _rules(spec.behavior.scaleUp, 0.0, defaults, tolerance)


def down_rules(spec: autoscaling.HorizontalPodAutoscalerSpec, window: float, tolerance: float) -> Rules:
    return _rules(spec.behavior.scaleDown, window, (Policy("Percent", 100, 15.0),), tolerance)


def _rules(given: autoscaling.HPAScalingRules, window: float, policies: Sequence[Policy], tolerance: float) -> Rules:
    from tillerman.api.quantity import parse_quantity

    return Rules(
        window=float(given.stabilizationWindowSeconds) if given.HasField("stabilizationWindowSeconds") else window,
        select=given.selectPolicy or "Max",
        policies=tuple(Policy(p.type, p.value, float(p.periodSeconds)) for p in given.policies) or tuple(policies),
        tolerance=float(parse_quantity(given.tolerance)) if given.HasField("tolerance") else tolerance,
    )


@dataclass(frozen=True)
class Decision:
    """`able` and `limited` are (reason, message) of AbleToScale and ScalingLimited; `is_limited` its status."""

    replicas: int
    able: tuple[str, str]
    limited: tuple[str, str]
    is_limited: bool


WITHIN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")


def decide(
    current: int, desired: int, *, minimum: int, maximum: int, up: Rules, down: Rules, history: History, now: float
) -> Decision:
    """Notes the recommendation in `history`, and says how far it is followed now."""
    stable = _stabilized(current, desired, up, down, history, now)
    history.recommended(now, desired)
    if stable == desired:
        able = ("ReadyForNewScale", "recommended size matches current size")
    elif desired > stable:
        able = (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        )
    else:
        able = (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        )
    replicas, limited = _bounded(current, stable, minimum, maximum, up, down, history, now)
    return Decision(replicas, able, limited or WITHIN_RANGE, limited is not None)


def _stabilized(current: int, desired: int, up: Rules, down: Rules, history: History, now: float) -> int:
    """The least change that every recommendation of the window agrees to."""
    lowest = min([desired, *(v for t, v in history.recommendations if t > now - up.window)])
    highest = max([desired, *(v for t, v in history.recommendations if t > now - down.window)])
    return min(max(current, lowest), highest)


def _bounded(
    current: int, wanted: int, minimum: int, maximum: int, up: Rules, down: Rules, history: History, now: float
) -> tuple[int, tuple[str, str] | None]:
    if wanted > current:
        limit = max(_up_limit(current, up, history, now), current)
        if limit < maximum:
            bound = limit
            limited = (
                "ScaleUpLimit",
                "the desired replica count is increasing faster than the maximum scale rate",
            )
        else:
            bound = maximum
            limited = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
        return (bound, limited) if wanted > bound else (wanted, None)
    if wanted < current:
        limit = min(_down_limit(current, down, history, now), current)
        if limit > minimum:
            bound = limit
            limited = (
                "ScaleDownLimit",
                "the desired replica count is decreasing faster than the maximum scale rate",
            )
        else:
            bound = minimum
            limited = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
        return (bound, limited) if wanted < bound else (wanted, None)
    return wanted, None


def _up_limit(current: int, rules: Rules, history: History, now: float) -> int:
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _changed(history.ups, policy, now) + _changed(history.downs, policy, now)
        if policy.kind == "Pods":
            limits.append(start + policy.value)
        else:
            limits.append(math.ceil(start * (1 + policy.value / 100)))
    return min(limits) if rules.select == "Min" else max(limits)


def _down_limit(current: int, rules: Rules, history: History, now: float) -> int:
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current + _changed(history.downs, policy, now) - _changed(history.ups, policy, now)
        if policy.kind == "Pods":
            limits.append(start - policy.value)
        else:
            limits.append(int(start * (1 - policy.value / 100)))
    return max(limits) if rules.select == "Min" else min(limits)


def _changed(events: Sequence[tuple[float, int]], policy: Policy, now: float) -> int:
    return sum(change for time, change in events if time > now - policy.period)
