"""PodDisruptionBudget."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.apps import at_most_all, number_or_percent
from services.apiserver.strategy.causes import Cause, invalid, non_negative, not_supported
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.selectors import label_selector
from tillerman.pb.k8s import policy_v1_pb2 as policy


def _validate(budget: Any) -> list[Cause]:
    spec = budget.spec
    causes: list[Cause] = []
    if spec.HasField("minAvailable") and spec.HasField("maxUnavailable"):
        causes.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field in ("minAvailable", "maxUnavailable"):
        if spec.HasField(field):
            causes += number_or_percent(f"spec.{field}", getattr(spec, field))
            causes += at_most_all(f"spec.{field}", getattr(spec, field))
    if spec.HasField("selector"):
        causes += label_selector("spec.selector", spec.selector)
    if spec.HasField("unhealthyPodEvictionPolicy"):
        allowed = ("IfHealthyBudget", "AlwaysAllow")
        if spec.unhealthyPodEvictionPolicy not in allowed:
            path = "spec.unhealthyPodEvictionPolicy"
            causes.append(not_supported(path, spec.unhealthyPodEvictionPolicy, allowed))
    return causes


def _validate_status(new: Any, old: Any) -> list[Cause]:
    # policy/v1 refuses negative counts; the beta accepted them.
    causes: list[Cause] = []
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        causes += non_negative(f"status.{field}", getattr(new.status, field))
    return causes


KINDS = {
    policy.PodDisruptionBudget: Kind(
        status=True,
        generation=True,
        unconditional_update=False,
        validate=_validate,
        validate_status=_validate_status,
    ),
}
