"""A page of nested `Label:  value` lines, and the parts that many kinds share: labels, conditions, events."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tillerman.api import times
from tillerman.api.printers.ages import age, human_duration
from tillerman.api.printers.core import last_seen_seconds
from tillerman.cli.session import Session
from tillerman.pb.k8s import core_v1_pb2 as core

NONE = "<none>"
UNSET = "<unset>"


class Page:
    """Lines with values aligned per depth; `sub` opens a section one step deeper."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._lines: list[tuple[str, str] | str | Page] = []

    def put(self, label: str, value: object) -> None:
        self._lines.append((f"{label}:", str(value)))

    def many(self, label: str, values: Sequence[str]) -> None:
        """The first value beside the label, the others below it; `<none>` without any."""
        self.put(label, values[0] if values else NONE)
        self._lines.extend(("", value) for value in values[1:])

    def section(self, label: str, value: str = "") -> "Page":
        self._lines.append(f"{label}:{'  ' + value if value else ''}")
        inner = Page(self._depth + 1)
        self._lines.append(inner)
        return inner

    def text(self, line: str) -> None:
        self._lines.append(line)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A small table under a section, with a line of dashes below the header."""
        cells = [list(header), ["-" * len(name) for name in header], *([str(c) for c in row] for row in rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
        for line in cells:
            self.text("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def render(self) -> str:
        indent = "  " * self._depth
        width = max((len(line[0]) for line in self._lines if isinstance(line, tuple)), default=0)
        out = []
        for line in self._lines:
            if isinstance(line, Page):
                out.append(line.render())
            elif isinstance(line, str):
                out.append(f"{indent}{line}\n")
            else:
                out.append(f"{indent}{line[0].ljust(width)}  {line[1]}".rstrip() + "\n")
        return "".join(out)


def pairs(values: Mapping[str, str], separator: str = "=") -> list[str]:
    return [f"{key}{separator}{value}" for key, value in sorted(values.items())]


def moment(time: times.type_time) -> str:
    """A time in the local zone: `Mon, 23 Nov 2026 07:05:47 +0000`."""
    if times.is_zero(time):
        return "<unset>"
    return times.to_datetime(time).astimezone().strftime("%a, %d %b %Y %H:%M:%S %z")


def head(page: Page, obj: Any) -> None:
    """Name, namespace, labels and annotations."""
    metadata = obj.metadata
    page.put("Name", metadata.name)
    if metadata.namespace:
        page.put("Namespace", metadata.namespace)
    labels(page, obj)


def labels(page: Page, obj: Any) -> None:
    """Labels and annotations, without the copy of the manifest that `apply` keeps."""
    metadata = obj.metadata
    page.many("Labels", pairs(metadata.labels))
    if metadata.annotations:
        hidden = "kubectl.kubernetes.io/last-applied-configuration"
        page.many("Annotations", pairs({k: v for k, v in metadata.annotations.items() if k != hidden}, ": "))


def conditions(page: Page, found: Iterable[Any]) -> None:
    """Type, status and reason of each condition."""
    rows = [[c.type, c.status, c.reason] for c in found]
    if rows:
        page.section("Conditions").table(["Type", "Status", "Reason"], rows)


def resources(page: Page, label: str, found: Mapping[str, Any]) -> None:
    if found:
        section = page.section(label)
        for name, quantity in sorted(found.items()):
            section.put(name, quantity.string)


def pod_counts(pods: Iterable[core.Pod]) -> str:
    phases = [pod.status.phase for pod in pods]
    counts = [(phases.count(phase), phase) for phase in ("Running", "Pending", "Succeeded", "Failed")]
    return " / ".join(f"{count} {'Waiting' if phase == 'Pending' else phase}" for count, phase in counts)


async def events_of(session: Session, obj: Any) -> list[core.Event]:
    """The events of an object, the oldest first."""
    metadata = obj.metadata
    fields = f"involvedObject.name={metadata.name}"
    if metadata.namespace:
        fields += f",involvedObject.namespace={metadata.namespace}"
    result = await session.client.resource(core.Event).list(metadata.namespace or None, field_selector=fields)
    kind = obj.DESCRIPTOR.name
    own = [
        event
        for event in result.items
        if event.involvedObject.kind == kind
        # Events about nodes carry the node's name as its uid.
        and event.involvedObject.uid in ("", metadata.uid, metadata.name)
    ]
    return sorted(own, key=last_seen_seconds)


def events(page: Page, found: Sequence[core.Event]) -> None:
    if not found:
        page.put("Events", NONE)
        return
    now = time.time()
    rows = []
    for event in found:
        seen = last_seen_seconds(event)
        count = event.series.count if event.HasField("series") else event.count
        ago = human_duration(now - seen) if seen else "<unknown>"
        if count > 1:
            ago = f"{ago} (x{count} over {age(event.firstTimestamp, now)})"
        source = event.source.component or event.reportingComponent
        rows.append([event.type, event.reason, ago, source, event.message.strip()])
    page.section("Events").table(["Type", "Reason", "Age", "From", "Message"], rows)
