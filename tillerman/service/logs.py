"""Structured logs on stderr: one JSON object a line, or coloured text for people.

Services log through `runtime.log` (structlog); libraries through the standard library's logging, which ends up in the
same stream with the same fields. While a call with a W3C traceparent is served, its trace id is on every line.
"""

import logging
import sys
from typing import Any, TextIO

from tillerman.client.trace import current_trace_id
from tillerman.service.quick_structlog import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(component: str, *, level: str, format: str, stream: TextIO | None = None) -> Any:
    """Sets up structlog and the standard library's logging for this process; returns the component's logger."""
    out = stream or sys.stderr

    def add_origin(logger: Any, _: str, event: Any) -> Any:
        event["component"] = component
        if name := getattr(logger, "name", ""):
            event["logger"] = name
        if trace := current_trace_id():
            event["trace_id"] = trace
        return event

    tail: list[Any] = [_console(out)] if format == "console" else [structlog.processors.format_exc_info, _to_json]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            add_origin,
            *tail,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *names: _NamedLogger(out, str(names[0]) if names else ""),
        cache_logger_on_first_use=stream is None,
    )
    logger = structlog.get_logger()
    root = logging.getLogger()
    root.handlers[:] = [_Forward(logger)]
    root.setLevel(LEVELS[level])
    for noisy in ("asyncio", "docker", "urllib3"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))
    return logger


class _NamedLogger(structlog.WriteLogger):
    """Keeps the name that structlog.get_logger(name) was given."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


class _Forward(logging.Handler):
    """The standard library's records, into structlog."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {"logger": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["exc_info"] = record.exc_info
            self._logger.log(max(record.levelno, logging.DEBUG) // 10 * 10, record.getMessage(), **fields)
        except Exception:
            self.handleError(record)


def _console(out: TextIO) -> Any:
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, timestamp_key="ts"
    )


def _to_json(_: object, __: str, event: dict[str, Any]) -> str:
    import orjson

    ordered = {"ts": event.pop("ts", None), "level": event.pop("level", None), "msg": event.pop("event", "")}
    return orjson.dumps(ordered | event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
