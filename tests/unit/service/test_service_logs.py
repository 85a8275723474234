import io
import json
import logging
from collections.abc import Iterator

import pytest

from tillerman.client.trace import TRACEPARENT
from tillerman.service import logs
from tillerman.service.quick_structlog import structlog


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_is_json_with_its_origin() -> None:
    out = io.StringIO()
    log = logs.configure("kubelet", level="info", format="json", stream=out)
    log.info("started", pods=3, path=io)
    log.debug("unseen")
    structlog.get_logger("kubelet.images").warning("slow")
    logging.getLogger("tillerman.client").warning("odd %s", "thing")
    first, second, third = lines(out)
    assert (first["level"], first["msg"], first["component"], first["pods"]) == ("info", "started", "kubelet", 3)
    assert (second["logger"], second["component"]) == ("kubelet.images", "kubelet")
    assert (third["msg"], third["logger"], third["level"]) == ("odd thing", "tillerman.client", "warning")


def test_errors_carry_their_traceback_and_calls_their_trace() -> None:
    out = io.StringIO()
    log = logs.configure("x", level="info", format="json", stream=out)
    token = TRACEPARENT.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("failed")
        logging.getLogger("lib").exception("failed too")
    finally:
        TRACEPARENT.reset(token)
    for line in lines(out):
        assert "ZeroDivisionError" in str(line["exception"])
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_console_lines_are_for_people() -> None:
    out = io.StringIO()
    logs.configure("x", level="debug", format="console", stream=out).info("hello", who="you")
    assert "hello" in out.getvalue() and "who=you" in out.getvalue()
