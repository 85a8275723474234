"""The W3C trace context (traceparent) of the call that is being served, handed on to the calls it makes."""

from contextvars import ContextVar

HEADER = "traceparent"

# "00-<32 hex trace id>-<16 hex span id>-<flags>", or empty outside a traced call.
TRACEPARENT: ContextVar[str] = ContextVar("tillerman_traceparent", default="")


def current_trace_id() -> str:
    """32 hex digits, or empty."""
    parent = TRACEPARENT.get()
    return parent[3:35] if len(parent) >= 55 else ""


def metadata() -> tuple[tuple[str, str], ...] | None:
    """What a client call adds to its metadata."""
    parent = TRACEPARENT.get()
    return ((HEADER, parent),) if parent else None
