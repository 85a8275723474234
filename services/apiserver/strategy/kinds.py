"""Every kind's rules, gathered from the modules of the groups."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy import (
    admission,
    apps,
    autoscaling,
    batch,
    cluster,
    config,
    endpoints,
    events,
    extensions,
    networking,
    persistent_volumes,
    pods,
    policy,
    quotas,
    rbac,
    services,
    small_groups,
    storage,
)
from services.apiserver.strategy.kind import Kind

KINDS: dict[type[Any], Kind] = {}
for _module in (
    admission,
    apps,
    autoscaling,
    batch,
    cluster,
    config,
    endpoints,
    events,
    extensions,
    networking,
    persistent_volumes,
    pods,
    policy,
    quotas,
    rbac,
    services,
    small_groups,
    storage,
):
    KINDS.update(_module.KINDS)
