"""DefaultTolerationSeconds: pods stay a while on a node that is not ready or unreachable, unless they say otherwise."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin
from tillerman.pb.k8s import core_v1_pb2 as core

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


class DefaultTolerations(BasePlugin):
    operations = frozenset({CREATE, UPDATE})
    resources = frozenset({("", "pods")})
    reads = frozenset()

    def __init__(self, *, not_ready_seconds: int, unreachable_seconds: int) -> None:
        self._defaults = [
            core.Toleration(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=seconds)
            for key, seconds in ((NOT_READY, not_ready_seconds), (UNREACHABLE, unreachable_seconds))
        ]

    async def admit(self, attributes: Attributes) -> None:
        tolerations = attributes.obj.spec.tolerations
        missing = self._defaults
        if tolerations:
            missing = [each for each in missing if not any(_tolerates(t, each.key) for t in tolerations)]
        tolerations.extend(missing)


def _tolerates(toleration: Any, key: str) -> bool:
    return toleration.key in (key, "") and toleration.effect in ("NoExecute", "")
