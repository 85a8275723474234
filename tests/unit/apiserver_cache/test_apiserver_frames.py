"""Frames: the bytes that readers share decode to what was stored, with the revision set."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from services.apiserver.cache.changes import ADDED, DELETED, MODIFIED, Change, WatchEvent
from services.apiserver.cache.entry import Entry, JsonFramer, ProtoFramer, revision_fragment
from services.apiserver.fronts.objects import first_field, messages, object_response
from tillerman.api import envelope
from tillerman.api.envelope import varint
from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import runtime_pb2

URL = "type.googleapis.com/k8s.io.api.core.v1.ConfigMap"
FRAMER = ProtoFramer(core.ConfigMap, URL, "v1", "ConfigMap")


def config_map(name: str, /, **data: str) -> core.ConfigMap:
    obj = core.ConfigMap()
    obj.metadata.name = name
    obj.data.update(data)
    return obj


def entry(obj: core.ConfigMap, revision: int) -> Entry:
    return Entry(FRAMER, f"/registry/configmaps/default/{obj.metadata.name}", obj.SerializeToString(), revision)


@given(st.integers(1, 2**62), st.text(max_size=300), st.dictionaries(st.text(max_size=5), st.text(max_size=200)))
def test_a_frame_is_a_field_of_any_response(revision: int, name: str, data: dict[str, str]) -> None:
    obj = config_map(name, **data)
    response = objects_pb2.ObjectResponse.FromString(object_response(entry(obj, revision)))
    decoded = core.ConfigMap.FromString(response.object.value)
    assert response.object.type_url == URL
    obj.metadata.resourceVersion = str(revision)
    assert decoded == obj


def test_a_later_revision_wins_over_an_earlier_one() -> None:
    moved = entry(config_map("a"), 5).at(77)
    assert moved.message().metadata.resourceVersion == "77" and moved.revision == 77
    assert entry(config_map("a"), 0).message().metadata.resourceVersion == ""


@given(st.integers(0, 2**63 - 1))
def test_varint(number: int) -> None:
    value = shift = 0
    for byte in varint(number):
        value |= (byte & 0x7F) << shift
        shift += 7
    assert value == number


def test_revision_fragment_merges() -> None:
    obj = core.ConfigMap.FromString(config_map("x").SerializeToString() + revision_fragment(12))
    assert obj.metadata.name == "x" and obj.metadata.resourceVersion == "12"


def test_custom_resources_travel_as_json() -> None:
    raw = b'{"apiVersion":"x.y/v1","kind":"K","metadata":{"name":"n","labels":{"a":"b"}}}'
    made = Entry(JsonFramer(), "/registry/x.y/ks/n", raw, 9)
    unknown = runtime_pb2.Unknown.FromString(made.value)
    assert unknown.contentType == "application/json" and b'"resourceVersion":"9"' in unknown.raw
    assert made.labels == {"a": "b"}


def test_events_are_encoded_once_and_shared() -> None:
    change = Change("k", 8, entry(config_map("a", v="1"), 5), entry(config_map("a", v="2"), 8))
    event = change.event(True, True)
    assert event is change.event(True, True)
    assert [e.type for e in (change.event(False, True), event, change.event(True, False)) if e] == [
        ADDED,
        MODIFIED,
        DELETED,
    ]
    assert change.event(False, False) is None
    gone = change.event(True, False)
    assert gone is not None and gone.entry.message().data["v"] == "1" and gone.entry.revision == 8


def test_watch_messages_are_never_cut_within_a_revision() -> None:
    big = "x" * 400_000
    events = [WatchEvent(ADDED, entry(config_map(f"n{i}", d=big), 10 + i // 4)) for i in range(12)]
    responses = [objects_pb2.WatchResponse.FromString(m) for m in messages(events)]
    seen = [
        [core.ConfigMap.FromString(e.object.value).metadata.resourceVersion for e in response.events]
        for response in responses
    ]
    assert [version for part in seen for version in part] == [str(10 + i // 4) for i in range(12)]
    boundaries = [part[-1] for part in seen[:-1]]
    assert len(responses) > 1 and all(after[0] != last for last, after in zip(boundaries, seen[1:], strict=True))


@given(st.binary(max_size=3000), st.text(max_size=200))
def test_first_field_leaves_warnings_out(value: bytes, warning: str) -> None:
    full = objects_pb2.ObjectResponse(object=AnyMessage(type_url=URL, value=value), warnings=[warning])
    outcome = objects_pb2.BatchResponse.Outcome.FromString(first_field(full.SerializeToString()))
    assert outcome.object == full.object


def test_the_objects_bytes_are_found_in_any_valid_envelope() -> None:
    framer = ProtoFramer(core.Pod, "type.googleapis.com/k8s.io.api.core.v1.Pod", "v1", "Pod")
    for raw in (b"", b"\x0a\x03\x0a\x01a", b"x" * 70_000):
        value = envelope.wrap("v1", "Pod", raw)
        assert framer.raw(value) == raw
        # Fields in another order, the last two left out: as valid.
        unknown = runtime_pb2.Unknown.FromString(value[len(envelope.MAGIC) :])
        unknown.ClearField("contentType")
        unknown.ClearField("contentEncoding")
        assert framer.raw(envelope.MAGIC + unknown.SerializeToString()) == raw
