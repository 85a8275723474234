"""Every recorded case of a real kube-apiserver, asked again over HTTPS.

At least 97 in 100 of each file are answered as recorded; the others are named, with their reasons, in
replay_exceptions.py, and a case that is named there and passes fails the test as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import replay_cases
import replay_watch
from golden import FILES, as_served, recording
from replay_exceptions import DIFFERENT, NOT_SERVED
from replay_server import Server
from replay_session import Session

PART = 0.97
JUDGES: dict[str, Callable[[Session, dict[str, Any]], list[str]]] = {
    "creates": replay_cases.create,
    "invalid": replay_cases.invalid,
    "lists": replay_cases.lists,
    "patches": replay_cases.patches,
    "apply": replay_cases.steps,
    "deletes": replay_cases.steps,
    "watches": replay_watch.watch,
    "subresources": replay_cases.steps,
}
# In these files a case builds on what earlier ones left.
IN_ORDER = frozenset({"creates", "invalid", "lists"})


def client(server: Server, name: str) -> Session:
    """As the recorder was for this file."""
    if name in IN_ORDER:
        return Session(server, server.http(User_Agent="golden/1.0", Accept="application/json"))
    return Session(server, server.http(User_Agent="rec/1", Accept="*/*"))


def run(server: Server, name: str, *, controllers: bool = False) -> dict[str, list[str]]:
    """How the answers differ, by case."""
    content = recording(name)
    session = client(server, name)
    before = server.stored()
    try:
        session.prepare(as_served((content.get("meta") or content)["setup"]))
        if name == "lists":
            session.saved.update(versions(session))
        mark = server.stored()
        found = {}
        for case in content["cases"]:
            if case["name"] in NOT_SERVED.get(name, {}) or bool(case.get("controllers")) != controllers:
                continue
            if name not in IN_ORDER:
                session = Session(server, session.http)
            try:
                found[case["name"]] = JUDGES[name](session, as_served(case))
            except Exception as error:
                found[case["name"]] = [f"{type(error).__name__}: {error}"]
                session.http.close()
            if name not in IN_ORDER:
                server.put_back(mark)
                # A list tells the present: once it is answered the server has seen what was put back.
                session.http("GET", "/api/v1/namespaces")
    finally:
        session.http.close()
        server.put_back(before)
    return found


def versions(session: Session) -> dict[str, str]:
    """The revisions that lists.json names."""
    pods = session.http("GET", "/api/v1/namespaces/l/pods").content
    numbers = [int(pod["metadata"]["resourceVersion"]) for pod in pods["items"]]
    return {
        "RV_NOW": pods["metadata"]["resourceVersion"],
        "RV_FIRST_POD": str(min(numbers)),
        "RV_LAST_POD": str(max(numbers)),
        "RV_FUTURE": "99999999",
    }


def check(name: str, found: dict[str, list[str]]) -> None:
    expected = DIFFERENT.get(name, {})
    failed = {case: lines for case, lines in found.items() if lines}
    problems = [f"{case}: {'; '.join(lines[:4])}" for case, lines in failed.items() if case not in expected]
    problems += [f"{case} passes, but is named as an exception" for case in expected if found.get(case) == []]
    assert not problems, f"{name}:\n" + "\n".join(problems)
    assert len(found) - len(failed) >= PART * len(found)


@pytest.mark.parametrize("name", FILES)
def test_answers_are_as_recorded(server: Server, name: str) -> None:
    check(name, run(server, name))


def test_garbage_is_collected_as_recorded(managed_server: Server) -> None:
    check("deletes", run(managed_server, "deletes", controllers=True))
