"""Round trips over random objects of every kind."""

import base64
import pkgutil
from importlib import import_module
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tillerman.pb.k8s
from tillerman.api import codec, envelope
from tillerman.api.json_forms import FORMS, SCHEMA
from tillerman.api.manifest import parse_document, to_yaml
from tillerman.api.plans import form_of
from tillerman.api.scheme import SCHEME
from tillerman.pb import options_pb2
from tillerman.pb.k8s import core_v1_pb2

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "Quantity": st.sampled_from(["0", "1", "250m", "64Mi", "1500m", "2e3", "7E", "1n", "-5", "3Gi"]),
    "IntOrString": st.integers(-(2**31), 2**31 - 1) | TEXT,
    "Time": st.sampled_from(["1970-01-01T00:00:00Z", "2026-11-23T07:05:47Z", "0999-01-01T00:00:00Z"]),
    "MicroTime": st.sampled_from(["2026-11-23T07:05:47.000001Z", "1970-01-01T00:00:00.000000Z"]),
    "Duration": st.sampled_from(["30s", "1h0m0s", "1.5s", "0s", "250ms"]),
    "RawExtension": st.dictionaries(TEXT, JSON_VALUES, max_size=2),
    "FieldsV1": st.dictionaries(TEXT, JSON_VALUES, max_size=2),
    "JSON": st.booleans() | TEXT | st.dictionaries(TEXT, JSON_VALUES, max_size=2),
    "Verbs": st.lists(TEXT, max_size=2),
    "ExtraValue": st.lists(TEXT, max_size=2),
    "AttestationValue": st.lists(TEXT, max_size=2),
    "JSONSchemaPropsOrBool": st.booleans(),
    "JSONSchemaPropsOrArray": st.just({"type": "string"}),
    "JSONSchemaPropsOrStringArray": st.lists(TEXT, min_size=1, max_size=2),
}
INTS = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
}


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type in INTS:
        return INTS[field.type]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(min_size=1, max_size=5).map(lambda raw: base64.b64encode(raw).decode())
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.integers(-100, 100) | st.sampled_from([0.5, -2.25])
    return TEXT


def draw_value(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is None:
        return draw(scalars(field))
    if form_of(field.message_type) is not None:
        return draw(SPECIAL[field.message_type.name])
    return draw_object(draw, field.message_type, depth - 1)


def draw_object(draw: st.DrawFn, descriptor: Descriptor, depth: int) -> dict[str, Any]:
    fields = list(descriptor.fields)
    chosen = draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=lambda f: f.name)) if fields else []
    out: dict[str, Any] = {}
    for field in chosen:
        child = field.message_type
        plain = child is not None and form_of(child) is None and not child.GetOptions().map_entry
        if depth <= 0 and plain:
            continue
        if field.GetOptions().Extensions[options_pb2.k8s].inline:
            out.update(draw_object(draw, child, depth - 1))
        elif child is not None and child.GetOptions().map_entry:
            entry = child.fields_by_name["value"]
            if depth > 0 or entry.message_type is None:
                out[field.json_name] = {
                    key: draw_value(draw, entry, depth - 1) for key in draw(st.sets(TEXT, min_size=1, max_size=2))
                }
        elif field.is_repeated:
            out[field.json_name] = [draw_value(draw, field, depth) for _ in range(draw(st.integers(1, 2)))]
        else:
            out[field.json_name] = draw_value(draw, field, depth)
    return out


KINDS = list(SCHEME.resources(also_served=True))
MESSAGES = [
    kind
    for module in pkgutil.iter_modules(tillerman.pb.k8s.__path__)
    for kind in vars(import_module(f"tillerman.pb.k8s.{module.name}")).values()
    if isinstance(kind, type) and issubclass(kind, Message) and form_of(kind.DESCRIPTOR) is None
]


@pytest.mark.parametrize("info", KINDS, ids=lambda i: f"{i.api_version}/{i.kind}")
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(data=st.data())
def test_json_round_trips_over_protobuf(info, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    body = data.draw(st.composite(lambda draw: draw_object(draw, info.message.DESCRIPTOR, 4))())
    message = codec.from_dict({"apiVersion": info.api_version, "kind": info.kind, **body}, strict=True)
    assert type(message) is info.message

    shown = codec.to_dict(message)
    assert (shown["apiVersion"], shown["kind"]) == (info.api_version, info.kind)
    again = codec.from_dict(shown, strict=True)
    assert codec.to_dict(again) == shown
    assert codec.to_dict(parsed(info.message, message.SerializeToString())) == shown
    # Encoding is a fixed point: what was shown comes back as the same bytes.
    assert again.SerializeToString(deterministic=True) == codec.from_dict(
        codec.to_dict(again), strict=True
    ).SerializeToString(deterministic=True)
    assert_contains(shown, body)


def parsed(message_type: type[Message], raw: bytes) -> Message:
    return message_type.FromString(raw)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(data=st.data())
def test_every_message_round_trips_over_json_yaml_and_the_envelope(data: st.DataObject) -> None:
    """All messages of the scheme, kinds or not."""
    kind = data.draw(st.sampled_from(MESSAGES))
    body = data.draw(st.composite(lambda draw: draw_object(draw, kind.DESCRIPTOR, 3))())
    message = codec.from_dict(body, kind, strict=True)
    shown = codec.to_dict(message)
    raw = message.SerializeToString(deterministic=True)
    assert codec.from_protobuf(raw, kind) == message
    assert codec.to_dict(codec.from_json(codec.to_json(message), kind, strict=True)) == shown
    assert parse_document(to_yaml(shown).encode())[0] == shown

    opened = envelope.unwrap(envelope.wrap("example.com/v1", "Kind", raw))
    assert (opened.api_version, opened.kind, opened.raw) == ("example.com/v1", "Kind", raw)
    # What the message does not know is dropped, and unknown names are told.
    unknown = b"\xf2\xff\x03\x03abc"
    assert codec.from_protobuf(raw + unknown, kind).SerializeToString(deterministic=True) == raw
    faults: list[str] = []
    codec.from_dict({**shown, "noSuchField": 1}, kind, unknown=faults)
    assert faults == ['unknown field "noSuchField"']


@given(text=st.binary(min_size=1, max_size=6))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_strings_that_are_not_utf_8_are_refused_with_their_place(text: bytes) -> None:
    inner = bytes((5 << 3 | 2, len(text))) + text
    raw = bytes((1 << 3 | 2, len(inner))) + inner
    try:
        text.decode()
    except UnicodeDecodeError:
        with pytest.raises(codec.DecodeError, match=r"metadata\.uid: invalid UTF-8"):
            codec.from_protobuf(raw, core_v1_pb2.Pod)
    else:
        assert codec.from_protobuf(raw, core_v1_pb2.Pod).metadata.uid == text.decode()  # type: ignore[attr-defined]


def assert_contains(shown: Any, given_value: Any) -> None:
    """Everything that was put in is shown, except zeros that Kubernetes leaves out."""
    if isinstance(given_value, dict):
        for key, value in given_value.items():
            if value or value == "0":
                if key not in shown:
                    assert value in ([], {}), f"{key} is lost"
                else:
                    assert_contains(shown[key], value)
    elif isinstance(given_value, list) and isinstance(shown, list):
        for ours, theirs in zip(shown, given_value, strict=True):
            assert_contains(ours, theirs)
    else:
        assert shown == given_value


def test_every_special_form_is_exercised() -> None:
    names = {name.rsplit(".", 1)[1] for name in FORMS} | {
        SCHEMA.rsplit(".", 1)[1] + suffix for suffix in ("OrBool", "OrArray", "OrStringArray")
    }
    assert names <= SPECIAL.keys()
