"""Recorded watches: a query, then actions, and the events that the watcher got."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import re
import socket
import threading
import time
from typing import Any

from golden.compare import differences, judged
from replay_server import decoded, on_the_wire
from replay_session import Session

EVENT_SECONDS, STILL_SECONDS, END_SECONDS = 5.0, 0.05, 20.0
BOOKMARK = "BOOKMARK"


class Stream:
    """The events of one watch. A thread reads them, so that waiting for the next one can end without it."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPSConnection) -> None:
        self._response = response
        self._connection = connection
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.events: list[dict[str, Any]] = []
        self.ended = False

    def _run(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for line in iter(self._response.readline, b""):
                self._lines.put(line)
        self._lines.put(None)

    def read(self, wanted: int, seconds: float) -> None:
        """Until there are ``wanted`` events that are no bookmarks, the stream ends, or time is up."""
        deadline = time.monotonic() + seconds
        while not self.ended and len(plain(self.events)) < wanted:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if line is None:
                self.ended = True
            elif line.strip():
                self.events.append(json.loads(line))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()


def plain(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] != BOOKMARK]


def watch(session: Session, case: dict[str, Any]) -> list[str]:
    asked, recorded = case["watch"], case.get("events")
    versions: dict[str | None, str] = {}
    found: list[str] = []
    if case["name"].startswith("compacted/"):
        session.server.compact()

    def run(steps: list[dict[str, Any]], label: str) -> None:
        for number, step in enumerate(steps):
            answer, lines = session.step(step, f"{label} {number}: ")
            found.extend(lines)
            content = answer.content if isinstance(answer.content, dict) else {}
            versions.setdefault((content.get("metadata") or {}).get("resourceVersion"), f"{label}:{number}")

    run(case["setup"], "setup")
    path = session.filled(asked["path"] + ("?" + asked["query"] if asked["query"] else ""))
    if recorded is None:
        answer = session.http("GET", path, accept=asked.get("accept"))
        return found + judged(asked["code"], asked.get("result"), answer.code, answer.content)
    connection = session.http.connect()
    connection.request("GET", on_the_wire(path), headers=session.http.headers(Accept=asked.get("accept")))
    response = connection.getresponse()
    if response.status != 200:
        with contextlib.closing(connection):
            return found + judged(asked["code"], None, response.status, decoded(response.read()))
    with contextlib.closing(Stream(response, connection)) as stream:
        run(case["actions"], "action")
        stream.read(len(plain(recorded)), EVENT_SECONDS)
        if case.get("closed_by_server_after_s") is None:
            stream.read(len(plain(recorded)) + 1, STILL_SECONDS)
        else:
            stream.read(1_000_000, END_SECONDS)
            if not stream.ended:
                found.append("the server did not end the stream")
    return found + _compare(asked["query"], recorded, stream.events, versions)


def _compare(
    query: str, recorded: list[dict[str, Any]], got: list[dict[str, Any]], versions: dict[str | None, str]
) -> list[str]:
    found = []
    wanted, have = plain(recorded), plain(got)
    if (len(wanted) < len(recorded)) != (len(have) < len(got)):
        found.append(f"bookmarks: {len(got) - len(have)}, recorded {len(recorded) - len(wanted)}")
    if len(wanted) != len(have):
        return [*found, f"events {[e['type'] for e in have]}, recorded {[e['type'] for e in wanted]}"]
    first = sum(event["after_action"] == -1 and event["type"] == "ADDED" for event in wanted)
    if not re.search(r"resourceVersion=[^0&]", query):
        # In which order a watch begins with what there is, is not promised.
        wanted[:first], have[:first] = sorted(wanted[:first], key=_name), sorted(have[:first], key=_name)
    for number, (event, event_got) in enumerate(zip(wanted, have, strict=True)):
        if event["type"] != event_got["type"]:
            found.append(f"event {number} is {event_got['type']}, recorded {event['type']}")
            continue
        found += [f"event {number}: {line}" for line in differences(event["object"], event_got["object"])]
        of = versions.get(_version(event_got["object"]), "none of these")
        if event.get("rv_of") and event["type"] != "ERROR" and of != event["rv_of"]:
            found.append(f"event {number} has the resourceVersion of {of}, recorded {event['rv_of']}")
    return found


def _name(event: dict[str, Any]) -> str:
    obj = event["object"]
    return str((obj.get("metadata") or {}).get("name") or [row["cells"][:1] for row in obj.get("rows") or []])


def _version(obj: dict[str, Any]) -> str | None:
    objects = [row.get("object") or {} for row in (obj.get("rows") or [])[:1]] + [obj]
    return next(filter(None, ((o.get("metadata") or {}).get("resourceVersion") for o in objects)), None)
