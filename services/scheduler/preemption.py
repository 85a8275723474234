"""Making room for a pod by evicting pods of lower priority. Only decides; the writer carries it out.

On each node where evicting could help: take away all pods of lower priority, and if the pod then fits, give them back
one by one, those that matter most first, as long as it still fits. Of the nodes, the one whose loss hurts least.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from services.scheduler.framework import Profile, fit_message
from services.scheduler.plugins.base import Scope
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import PodInfo
from tillerman.api.selectors import from_message
from tillerman.pb.k8s import policy_v1_pb2 as policy

MAX_CANDIDATES = 100
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(slots=True)
class Plan:
    """Evict the victims, then the pod fits on the node."""

    node: str
    victims: list[PodInfo]
    disruptions: int


def plan(
    info: PodInfo, profile: Profile, snapshot: Snapshot, budgets: Sequence[policy.PodDisruptionBudget]
) -> tuple[Plan | None, str]:
    """The least harmful plan; without one, Kubernetes' sentence on why not."""
    template = info.template
    if not template.preempts:
        return None, "not eligible due to preemptionPolicy=Never."
    if not snapshot.node_count:
        return None, ""
    candidates = profile.node_mask(template, snapshot).copy()
    for scope in (Scope.ROW, Scope.CLUSTER):
        for plugin in profile.of_scope(scope):
            resolvable = plugin.resolvable(template, snapshot, snapshot.all_rows)
            if resolvable is not None:
                candidates &= resolvable
    hopeful = np.flatnonzero(candidates)
    best: Plan | None = None
    if snapshot.has_pods_below(info.priority):
        plans = []
        start = profile.rng.randrange(len(hopeful)) if len(hopeful) else 0
        for row in np.roll(hopeful, -start).tolist():
            on_node = _plan_on(info, row, profile, snapshot, budgets)
            if on_node is not None:
                plans.append(on_node)
                if len(plans) >= MAX_CANDIDATES:
                    break
        best = min(plans, key=_harm, default=None)
    if best is not None:
        return best, ""
    reasons = Counter({NO_VICTIMS: len(hopeful), NOT_HELPFUL: snapshot.node_count - len(hopeful)})
    return None, fit_message(snapshot.node_count, +reasons)


def _plan_on(
    info: PodInfo, row: int, profile: Profile, snapshot: Snapshot, budgets: Sequence[policy.PodDisruptionBudget]
) -> Plan | None:
    template = info.template
    lower = [other for other in snapshot.pods_on[row].values() if other.priority < info.priority]
    if not lower:
        return None
    with ExitStack() as stack:
        stack.enter_context(snapshot.without(lower))
        if not profile.feasible(template, snapshot, row):
            return None
        protected = _over_budget(lower, budgets)
        victims: list[PodInfo] = []
        for other in sorted(lower, key=lambda o: (o.key not in protected, -o.priority, o.started)):
            back = ExitStack()
            back.enter_context(snapshot.reserving([other]))
            if profile.feasible(template, snapshot, row):
                stack.push(back.pop_all())
            else:
                back.close()
                victims.append(other)
    if not victims:
        return None
    return Plan(snapshot.names[row], victims, sum(victim.key in protected for victim in victims))


def _harm(plan: Plan) -> tuple[float, ...]:
    priorities = [victim.priority for victim in plan.victims]
    top = max(priorities)
    youngest = min(victim.started for victim in plan.victims if victim.priority == top)
    return (plan.disruptions, top, sum(priorities), len(priorities), -youngest)


def _over_budget(pods: Iterable[PodInfo], budgets: Sequence[policy.PodDisruptionBudget]) -> set[str]:
    """Keys of the pods whose eviction would break a disruption budget, if all the others are evicted too."""
    allowed = [(b, from_message(b.spec.selector), b.status.disruptionsAllowed) for b in budgets]
    left = [remaining for _, _, remaining in allowed]
    broken: set[str] = set()
    for pod in sorted(pods, key=lambda p: (-p.priority, p.started)):
        for number, (budget, selector, _) in enumerate(allowed):
            if budget.metadata.namespace != pod.template.namespace or not selector.matches(pod.template.labels):
                continue
            left[number] -= 1
            if left[number] < 0:
                broken.add(pod.key)
    return broken
