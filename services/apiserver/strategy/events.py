"""Events: as old clients write them (core/v1), and those of events.k8s.io/v1, of which more is asked.

Both are stored as core/v1; an Event is checked in the form in which it was written. Paths are those of the core form.
"""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import Cause, immutable, invalid, invalid_all, qualified_name, required
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_subdomain, path_segment
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import events_v1_pb2 as events

_FIELD_LIMIT, _NOTE_LIMIT = 128, 1024
_OTHER_NAMESPACE = "does not match event.namespace"
# The fields of events.k8s.io/v1 that may not change, by the core form's names.
_FIXED = {
    "reason": "reason",
    "note": "message",
    "deprecatedCount": "count",
    "type": "type",
    "action": "action",
    "reportingController": "reportingController",
    "reportingInstance": "reportingInstance",
}
_FIXED_MESSAGES = {
    "regarding": "involvedObject",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "eventTime": "eventTime",
    "related": "related",
}


def _set(time: Any) -> bool:
    return bool(time.seconds or time.nanos)


def _validate(event: Any, subject: str, *, reporter: str, reporter_path: str, note: str) -> list[Cause]:
    """What both forms obey, the fields that they name differently given by `subject`, `reporter` and `note`."""
    namespace, of_subject = event.metadata.namespace, getattr(event, subject).namespace
    causes: list[Cause] = []
    modern = _set(event.eventTime)
    # An event about a cluster-wide object goes to the default namespace (a modern one to the system's too).
    allowed = ("default", "kube-system") if modern else ("default", "")
    fits = of_subject == namespace or modern if of_subject else namespace in allowed
    if not fits:
        causes.append(invalid("involvedObject.namespace", of_subject, _OTHER_NAMESPACE))
    if not modern:
        return causes
    controller = getattr(event, reporter)
    if not controller:
        causes.append(required(reporter_path))
    causes += invalid_all(reporter_path, controller, qualified_name(controller))
    for field in ("reportingInstance", "action", "reason"):
        value = getattr(event, field)
        if not value:
            causes.append(required(field))
        elif len(value) > _FIELD_LIMIT:
            causes.append(invalid(field, "", f"can have at most {_FIELD_LIMIT} characters"))
    if len(getattr(event, note)) > _NOTE_LIMIT:
        causes.append(invalid("message", "", f"can have at most {_NOTE_LIMIT} characters"))
    return causes


def _validate_old_form(event: Any) -> list[Cause]:
    return _validate(
        event, "involvedObject", reporter="reportingComponent", reporter_path="reportingComponent", note="message"
    )


def _validate_common(event: Any) -> list[Cause]:
    return _validate(
        event, "regarding", reporter="reportingController", reporter_path="reportingController", note="note"
    )


def _validate_new_form(event: Any) -> list[Cause]:
    causes = _validate_common(event) + _series(event)
    if not _set(event.eventTime):
        causes.append(required("eventTime"))
    if event.type not in ("Normal", "Warning"):
        causes.append(invalid("type", "", f"has invalid value: {event.type}"))
    unset = "needs to be unset"
    causes += [
        invalid(path, "", unset)
        for field, path in (
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
        )
        if _set(getattr(event, field))
    ]
    if event.deprecatedCount:
        causes.append(invalid("count", "", unset))
    if event.deprecatedSource.component or event.deprecatedSource.host:
        causes.append(invalid("source", "", unset))
    return causes


def _series(event: Any) -> list[Cause]:
    if not event.HasField("series"):
        return []
    causes = [invalid("series.count", "", "should be at least 2")] if event.series.count < 2 else []
    return causes if _set(event.series.lastObservedTime) else [*causes, required("series.lastObservedTime")]


def _update_new_form(new: Any, old: Any) -> list[Cause]:
    causes = _validate_common(new)
    if not semantically_equal(new.series, old.series):
        causes += _series(new)
    for field, path in _FIXED.items():
        causes += immutable(path, getattr(new, field), getattr(old, field))
    for field, path in _FIXED_MESSAGES.items():
        causes += immutable(path, getattr(new, field), getattr(old, field))
    return causes


KINDS = {
    core.Event: Kind(name=path_segment, create_on_update=True, validate=_validate_old_form),
    events.Event: Kind(
        name=dns_subdomain,
        create_on_update=True,
        validate=_validate_new_form,
        validate_update=_update_new_form,
        validate_on_update=False,
    ),
}
