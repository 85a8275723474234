"""Crash back-off: restart at once the first time, then after 10 s, doubling to 5 min; forgotten after running 10 min.

Each attempt carries (as a label) the delay that applies should it end, so the back-off survives a kubelet restart.
"""

from services.kubelet.runtime.interface import ContainerState

FIRST_SECONDS = 10
LIMIT_SECONDS = 300
FORGET_SECONDS = 600


def next_backoff(ended: ContainerState) -> tuple[float, int]:
    """(when the next attempt may start, the delay that attempt carries)."""
    ran = ended.finished_at - (ended.started_at or ended.finished_at)
    if ran >= FORGET_SECONDS or ended.backoff_seconds == 0:
        return ended.finished_at, FIRST_SECONDS
    delay = ended.backoff_seconds
    return ended.finished_at + delay, min(delay * 2, LIMIT_SECONDS)


def doubled(delay: float, *, first: float = FIRST_SECONDS, limit: float = LIMIT_SECONDS) -> float:
    """For what is tried again without running in between: image pulls."""
    return first if delay <= 0 else min(delay * 2, limit)
