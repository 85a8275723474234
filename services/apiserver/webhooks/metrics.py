"""What webhooks cost and refuse, under Kubernetes' metric names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

PREFIX = "apiserver_admission_webhook_"
BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0)
ADMIT, VALIDATING = "admit", "validating"
NO_ERROR, CALLING_ERROR, INTERNAL_ERROR = "no_error", "calling_webhook_error", "apiserver_internal_error"


class WebhookMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        asked = ("name", "type", "operation")
        self._seconds = Histogram(
            f"{PREFIX}admission_duration_seconds",
            "Seconds per call of an admission webhook.",
            (*asked, "rejected"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            f"{PREFIX}request",
            "Calls of admission webhooks by the code of what came of the request.",
            (*asked, "code", "rejected"),
            registry=registry,
        )
        self._rejections = Counter(
            f"{PREFIX}rejection_count",
            "Requests that admission webhooks, or failures to call them, refused.",
            (*asked, "error_type", "rejection_code"),
            registry=registry,
        )
        self._open = Counter(
            f"{PREFIX}fail_open_count",
            "Calls of admission webhooks that failed and were ignored.",
            ("name", "type"),
            registry=registry,
        )

    def called(self, name: str, kind: str, operation: str, seconds: float, code: int) -> None:
        """``code``: 200, or the HTTP code of the refusal."""
        rejected = "true" if code >= 400 else "false"
        self._seconds.labels(name, kind, operation, rejected).observe(seconds)
        self._requests.labels(name, kind, operation, str(code), rejected).inc()

    def rejected(self, name: str, kind: str, operation: str, error_type: str, code: int) -> None:
        # Kubernetes' dashboards group by code; odd ones would make a series each.
        shown = code if code <= 600 else 600
        self._rejections.labels(name, kind, operation, error_type, str(shown)).inc()

    def ignored(self, name: str, kind: str) -> None:
        self._open.labels(name, kind).inc()
