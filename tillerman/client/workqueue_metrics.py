"""The work queue metrics, with Kubernetes' names; label `name` is the queue's."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)

DEPTH = Gauge("workqueue_depth", "Current depth of workqueue.", ["name"])
ADDS = Counter("workqueue_adds", "Total number of adds handled by workqueue.", ["name"])
RETRIES = Counter("workqueue_retries", "Total number of retries handled by workqueue.", ["name"])
QUEUE_DURATION = Histogram(
    "workqueue_queue_duration_seconds", "Seconds an item waits in workqueue before it is worked on.", ["name"],
    buckets=_BUCKETS,
)  # fmt: skip
WORK_DURATION = Histogram(
    "workqueue_work_duration_seconds", "Seconds that working on an item from workqueue takes.", ["name"],
    buckets=_BUCKETS,
)  # fmt: skip
UNFINISHED = Gauge(
    "workqueue_unfinished_work_seconds",
    "Seconds of work in progress that work_duration has not observed yet.",
    ["name"],
)
LONGEST = Gauge(
    "workqueue_longest_running_processor_seconds", "Seconds the longest running worker has been at it.", ["name"]
)


class QueueMetrics:
    """One queue's children of the metrics; `work_times` gives the age in seconds of every item in work."""

    __slots__ = ("adds", "depth", "queue_duration", "retries", "work_duration")

    def __init__(self, name: str, work_times: Callable[[], list[float]]) -> None:
        self.depth = DEPTH.labels(name)
        self.adds = ADDS.labels(name)
        self.retries = RETRIES.labels(name)
        self.queue_duration = QUEUE_DURATION.labels(name)
        self.work_duration = WORK_DURATION.labels(name)
        UNFINISHED.labels(name).set_function(lambda: sum(work_times()))
        LONGEST.labels(name).set_function(lambda: max(work_times(), default=0.0))
