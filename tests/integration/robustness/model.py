"""The model: a key's history of versions, and what each operation makes of one. No I/O.

Every write carries a token of its own, so that each version in etcd names the operation that made it; an operation is a
pure function of the version before it. ``History`` holds what etcd says happened and answers what anybody should have
seen of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, str]
Selects = Callable[["Version"], bool]
ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


@dataclass(frozen=True)
class Version:
    """What of an object the model looks at."""

    key: Key
    revision: int
    uid: str
    labels: dict[str, str]
    data: dict[str, str]

    @property
    def token(self) -> str:
        return self.data.get("token", "")

    def same(self, other: Version) -> bool:
        return (self.key, self.uid, self.labels, self.data) == (other.key, other.uid, other.labels, other.data)


@dataclass
class Operation:
    """One call of one client. ``outcome``: "done" (acknowledged), "refused" (surely not carried out), "unknown".

    ``read``: the version that an update or conditional delete was based on. ``result``: what was answered.
    """

    token: str
    verb: str
    key: Key
    labels: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    read: Version | None = None
    outcome: str = "unknown"
    why: str = ""
    result: Version | None = None
    # The largest revision that anybody had been told of before the call.
    known_before: int = 0

    def make(self, before: Version | None) -> tuple[dict[str, str], dict[str, str]] | None:
        """(labels, data) that the operation makes of a version; None where it must not have been carried out."""
        if self.verb == "create":
            return None if before is not None else (self.labels, {**self.data, "token": self.token})
        if before is None:
            return None
        if self.verb == "update":
            if self.read is None or before.revision != self.read.revision:
                return None
            return self.labels, {**self.data, "token": self.token}
        if self.verb == "merge":
            return {**before.labels, **self.labels}, {**before.data, "token": self.token}
        if self.verb == "json":
            return before.labels, {**before.data, self.token: "here", "token": self.token}
        return None

    def __str__(self) -> str:
        based = f" on {self.read.revision}" if self.read else ""
        got = f" -> {self.result.revision}" if self.result else ""
        return f"{self.token} {self.verb} {'/'.join(self.key)}{based}: {self.outcome}{got} {self.why}"


@dataclass(frozen=True)
class Event:
    """One change. ``new`` None: deleted."""

    revision: int
    key: Key
    old: Version | None
    new: Version | None

    def __str__(self) -> str:
        what = self.new.token if self.new else "deleted"
        return f"{self.revision} {'/'.join(self.key)} {what}"


@dataclass(frozen=True)
class Seen:
    """An event as a watcher was told."""

    type: str
    version: Version


class History:
    """All that happened, in etcd's order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._revisions: list[int] = []
        self._versions: dict[Key, list[Event]] = defaultdict(list)

    def add(self, revision: int, key: Key, new: Version | None) -> None:
        past = self._versions[key]
        old = past[-1].new if past else None
        if old is None and new is None:
            return
        event = Event(revision, key, old, new)
        past.append(event)
        self.events.append(event)
        self._revisions.append(revision)

    def of(self, key: Key) -> list[Event]:
        return self._versions[key]

    def at(self, revision: int) -> dict[Key, Version]:
        """Everything that existed at a revision."""
        found = {}
        for key, events in self._versions.items():
            index = bisect_right(events, revision, key=lambda event: event.revision)
            if index and (version := events[index - 1].new) is not None:
                found[key] = version
        return found

    def selected(self, revision: int, selects: Selects) -> dict[Key, Version]:
        return {key: version for key, version in self.at(revision).items() if selects(version)}

    def seen(self, after: int, upto: int, selects: Selects) -> list[Seen]:
        """What a watcher with a selection is told of the revisions after+1 .. upto."""
        found = []
        first, last = bisect_right(self._revisions, after), bisect_right(self._revisions, upto)
        for event in self.events[first:last]:
            was = event.old is not None and selects(event.old)
            now = event.new is not None and selects(event.new)
            if now and event.new is not None:
                found.append(Seen(MODIFIED if was else ADDED, event.new))
            elif was and event.old is not None:
                gone = Version(event.key, event.revision, event.old.uid, event.old.labels, event.old.data)
                found.append(Seen(DELETED, gone))
        return found

    def around(self, key: Key, revision: int, count: int = 4) -> str:
        events = self.of(key)
        index = bisect_right(events, revision, key=lambda event: event.revision)
        return "; ".join(map(str, events[max(0, index - count) : index + count]))


def check_operations(history: History, operations: Iterable[Operation]) -> list[str]:
    """Every acknowledged write is there as answered, each version is what one operation makes of the one before, no
    refused write is there, none is there twice.
    """
    wrong: list[str] = []
    by_token = {operation.token: operation for operation in operations}
    made: dict[str, Event] = {}
    deleted: dict[str, Event] = {}
    for event in history.events:
        if event.new is None:
            assert event.old is not None
            deleted[event.old.uid] = event
            continue
        token = event.new.token
        operation = by_token.get(token)
        if operation is None:
            wrong.append(f"{event}: made by nobody")
        elif token in made:
            wrong.append(f"{event}: {operation} was carried out twice, before at {made[token].revision}")
        elif operation.outcome == "refused":
            wrong.append(f"{event}: was refused: {operation}")
        elif operation.make(event.old) != (event.new.labels, event.new.data):
            around = history.around(event.key, event.revision)
            wrong.append(f"{event}: {operation} does not make {event.new} of {event.old}; {around}")
        made[token] = event
    for operation in by_token.values():
        wrong += _check_acknowledged(history, operation, made, deleted)
    wrong += _check_deletions(deleted, by_token.values())
    return wrong


def _check_acknowledged(
    history: History, operation: Operation, made: dict[str, Event], deleted: dict[str, Event]
) -> list[str]:
    result = operation.result
    if operation.outcome != "done" or result is None:
        return []
    if operation.verb == "delete":
        if result.uid not in deleted:
            return [f"acknowledged, but not there: {operation}"]
        return []
    event = made.get(operation.token)
    if event is None or event.new is None:
        return [f"acknowledged, but not there: {operation}; {history.around(operation.key, result.revision)}"]
    if event.revision != result.revision or not event.new.same(result):
        return [f"answered {result}, stored {event.new}: {operation}"]
    if event.revision <= operation.known_before:
        return [f"{event.revision} is not after {operation.known_before}, which was known before: {operation}"]
    return []


def _check_deletions(deleted: dict[str, Event], operations: Iterable[Operation]) -> list[str]:
    """Somebody must have wanted each of them."""
    wanted: dict[Key, int] = defaultdict(int)
    for operation in operations:
        if operation.verb == "delete" and operation.outcome != "refused":
            wanted[operation.key] += 1
    wrong = []
    for event in deleted.values():
        wanted[event.key] -= 1
        if wanted[event.key] < 0:
            wrong.append(f"{event}: deleted by nobody")
    return wrong


@dataclass
class Stretch:
    """What a watcher saw from one list on. ``upto``: the last revision that it was told of."""

    start: int
    items: list[Version]
    events: list[Seen] = field(default_factory=list)
    upto: int = 0
    notes: list[str] = field(default_factory=list)


def check_watcher(history: History, name: str, stretches: Iterable[Stretch], selects: Selects) -> list[str]:
    """Each list is the model's state, and each change after it was told once and in order."""
    wrong: list[str] = []
    for stretch in stretches:
        wrong += check_list(history, f"{name}'s list", stretch.start, stretch.items, selects)
        expected = history.seen(stretch.start, stretch.upto, selects)
        if difference := first_difference(expected, stretch.events):
            notes = "\n      ".join(stretch.notes[-12:])
            wrong.append(f"{name}, from {stretch.start} to {stretch.upto}: {difference}\n      {notes}")
    return wrong


def check_list(history: History, name: str, revision: int, items: list[Version], selects: Selects) -> list[str]:
    expected = history.selected(revision, selects)
    found = {item.key: item for item in items}
    if len(found) != len(items):
        return [f"{name} at {revision}: some object stands twice"]
    wrong = [
        f"{name} at {revision}: {found.get(key)}, model {expected.get(key)}; {history.around(key, revision)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    return wrong[:3]


def first_difference(expected: list[Seen], events: list[Seen]) -> str:
    """Events of one revision are of different keys, and may come in any order among them."""
    ordered = [
        sorted(seen, key=lambda event: (event.version.revision, event.version.key)) for seen in (expected, events)
    ]
    if [event.version.revision for event in events] != sorted(event.version.revision for event in events):
        return "the revisions are out of order: " + str([event.version.revision for event in events])
    for position, (wanted, got) in enumerate(zip(*ordered, strict=False)):
        if wanted != got:
            return f"event {position} is {_short(got)}, the model says {_short(wanted)}"
    if len(expected) != len(events):
        longer = max(ordered, key=len)
        what = "missing" if len(expected) > len(events) else "too much"
        return f"{what}: {', '.join(map(_short, longer[min(map(len, ordered)) :][:5]))}"
    return ""


def _short(seen: Seen) -> str:
    version = seen.version
    return f"{seen.type} {'/'.join(version.key)} {version.token} at {version.revision} {version.labels}"


def version_of(obj: Any) -> Version:
    """A ConfigMap as the model sees it."""
    meta = obj.metadata
    return Version(
        (meta.namespace, meta.name), int(meta.resourceVersion or 0), meta.uid, dict(meta.labels), dict(obj.data)
    )
