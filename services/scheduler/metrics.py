"""The scheduler's metrics, named as kube-scheduler names them."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_ATTEMPT_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2)

PENDING = Gauge("scheduler_pending_pods", "Pods that wait, by the queue they wait in.", ["queue"])
INCOMING = Counter(
    "scheduler_queue_incoming_pods_total", "Pods put into a scheduling queue, by queue and event.", ["queue", "event"]
)
ATTEMPTS = Counter("scheduler_schedule_attempts_total", "Attempts to schedule pods, by result.", ["result", "profile"])
ATTEMPT_DURATION = Histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "Seconds of one scheduling attempt (algorithm and binding).",
    ["result", "profile"],
    buckets=_ATTEMPT_SECONDS,
)
ALGORITHM_DURATION = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds", "Seconds to find one node.", buckets=_ATTEMPT_SECONDS
)
POD_ATTEMPTS = Histogram(
    "scheduler_pod_scheduling_attempts", "Attempts until a pod was scheduled.", buckets=(1, 2, 4, 8, 16)
)
SLI_DURATION = Histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "Seconds from a pod's entry into the queue until it is bound.",
    ["attempts"],
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68),
)
PREEMPTIONS = Counter("scheduler_preemption_attempts_total", "Attempts to make room by evicting pods.")
VICTIMS = Histogram("scheduler_preemption_victims", "Pods evicted for one pod.", buckets=(1, 2, 4, 8, 16, 32, 64))
CACHE_SIZE = Gauge("scheduler_cache_size", "Nodes, pods and assumed pods the scheduler knows.", ["type"])


@cache
def pending(queue: str) -> Gauge:
    return PENDING.labels(queue)


@cache
def incoming(queue: str, event: str) -> Counter:
    return INCOMING.labels(queue, event)


for _queue in ("active", "backoff", "unschedulable", "gated"):
    pending(_queue).set(0)
