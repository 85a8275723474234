"""Resources that are served in more than one version or under two groups: what is stored is one of them.

A View turns stored objects into the other form and back: autoscaling/v1 over autoscaling/v2, events.k8s.io/v1 over v1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.apiserver.cache import fields
from services.apiserver.cache.changes import WatchEvent
from services.apiserver.cache.entry import Entry, ProtoFramer
from services.apiserver.registry import autoscalers
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from tillerman.api import codec
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.pb.k8s import core_v1_pb2, events_v1_pb2

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class View:
    """``info``: the served form; ``stored``: (api version, resource) of the stored one. Conversions make new
    messages.
    """

    info: ResourceInfo
    stored: tuple[str, str]
    to_storage: Convert
    from_storage: Convert
    framer: ProtoFramer
    # Objects written in this version are checked in its form, by its own rules.
    own_rules: bool = False

    def entry(self, entry: Entry) -> Entry:
        message = self.from_storage(entry.message())
        message.metadata.ClearField("resourceVersion")
        return Entry(self.framer, entry.key, message.SerializeToString(), entry.revision)

    def event(self, event: WatchEvent) -> WatchEvent:
        return WatchEvent(event.type, self.entry(event.entry))

    def field_selector(self, text: str) -> str:
        """The selector with the stored form's names of the fields. Raises BadRequest."""
        return str(fields.resolve(fields.parse(text), self.info.api_version, self.info.resource))


def _views() -> dict[tuple[str, str], View]:
    return {
        ("autoscaling/v1", "horizontalpodautoscalers"): _view(
            "autoscaling/v1", "horizontalpodautoscalers", "autoscaling/v2", autoscalers.to_v2, autoscalers.to_v1
        ),
        ("events.k8s.io/v1", "events"): _view(
            "events.k8s.io/v1",
            "events",
            "v1",
            event_to_core,
            event_from_core,
            own_rules=True,
        ),
    }


def ruled(obj: Any, context: Context) -> Any:
    """A stored object in the form whose rules it is checked by."""
    view = VIEWS.get(context.asked) if context.asked is not None else None
    return view.from_storage(obj) if view is not None and view.own_rules else obj


def form(resource: Resource, obj: Any, api_version: str) -> dict[str, Any] | None:
    """A stored object as JSON of another version of its resource; None for one it is not served in."""
    info = resource.info
    if api_version == info.api_version:
        return resource.to_dict(obj)
    view = VIEWS.get((api_version, info.resource))
    if view is None or view.stored != (info.api_version, info.resource):
        return None
    return codec.to_dict(view.from_storage(obj))


def _view(
    served: str,
    resource: str,
    stored: str,
    to_storage: Convert,
    from_storage: Convert,
    *,
    own_rules: bool = False,
) -> View:
    info = SCHEME.by_resource(served, resource)
    framer = ProtoFramer(info.message, info.type_url, info.api_version, info.kind)
    return View(info, (stored, resource), to_storage, from_storage, framer, own_rules)


# -- events ------------------------------------------------------------------------------------------------------------

_EVENT_MESSAGES = {
    "metadata": "metadata",
    "eventTime": "eventTime",
    "regarding": "involvedObject",
    "related": "related",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
}
_EVENT_VALUES = {
    "reportingController": "reportingComponent",
    "reportingInstance": "reportingInstance",
    "action": "action",
    "reason": "reason",
    "note": "message",
    "type": "type",
    "deprecatedCount": "count",
}


def event_to_core(event: Any) -> core_v1_pb2.Event:
    found = core_v1_pb2.Event()
    for served, stored in _EVENT_MESSAGES.items():
        if event.HasField(served):
            getattr(found, stored).CopyFrom(getattr(event, served))
    for served, stored in _EVENT_VALUES.items():
        if event.HasField(served):
            setattr(found, stored, getattr(event, served))
    if event.HasField("series"):
        found.series.count = event.series.count
        found.series.lastObservedTime.CopyFrom(event.series.lastObservedTime)
    return found


def event_from_core(event: Any) -> events_v1_pb2.Event:
    found = events_v1_pb2.Event()
    for served, stored in _EVENT_MESSAGES.items():
        if event.HasField(stored):
            getattr(found, served).CopyFrom(getattr(event, stored))
    for served, stored in _EVENT_VALUES.items():
        if event.HasField(stored):
            setattr(found, served, getattr(event, stored))
    if event.HasField("series"):
        found.series.count = event.series.count
        found.series.lastObservedTime.CopyFrom(event.series.lastObservedTime)
    return found


# By (api version, resource) as served.
VIEWS = _views()
