"""Pruning, defaulting and checking by schema: tables of Kubernetes' own answers, and what holds for any object."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apiserver.crd.objects import MAX_DEPTH, with_go_numbers
from services.apiserver.crd.schema import fill, prune
from services.apiserver.crd.values import validate
from services.apiserver.patch import apply_patch
from services.apiserver.strategy.custom.invariants import embedded_objects, repeated_items
from tillerman.api import codec
from tillerman.api.status import StatusError

SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 1},
                "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 5},
                "when": {"type": "string", "format": "date-time"},
                "tags": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string"}},
                "either": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "port": {"x-kubernetes-int-or-string": True},
                "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}},
                "maybe": {"type": "string", "nullable": True, "default": "x"},
                "flag": {"type": "boolean"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "unique": {"type": "array", "uniqueItems": True, "items": {"type": "integer"}},
            },
        }
    },
}

CASES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"size": 1}, []),
    ({"size": 3.0, "port": "http", "maybe": None}, []),
    ({}, [("spec.size", "Required value")]),
    (
        {"size": "3"},
        [("spec.size", 'Invalid value: "string": spec.size in body must be of type integer: "string"')],
    ),
    (
        {"size": 1.5},
        [
            ("spec.size", 'Invalid value: "number": spec.size in body must be of type integer: "number"'),
            ("spec.size", "Invalid value: 1.5: spec.size in body should be a multiple of 1"),
        ],
    ),
    ({"size": 0}, [("spec.size", "Invalid value: 0: spec.size in body should be greater than or equal to 1")]),
    ({"size": 11}, [("spec.size", "Invalid value: 11: spec.size in body should be less than or equal to 10")]),
    ({"size": 1, "ratio": 0}, [("spec.ratio", "Invalid value: 0: spec.ratio in body should be greater than 0")]),
    (
        {"size": 1, "color": "blue"},
        [("spec.color", 'Unsupported value: "blue": supported values: "red", "green"')],
    ),
    # Of a text's length and pattern only the first fault is told.
    ({"size": 1, "code": "A"}, [("spec.code", "at least 2 chars")]),
    ({"size": 1, "code": "ABCDEF"}, [("spec.code", "spec.code in body should be at most 5 chars long")]),
    ({"size": 1, "code": "AB"}, [("spec.code", "should match '^[a-z]+$'")]),
    ({"size": 1, "when": 5}, [("spec.when", 'spec.when in body must be of type date-time: "int64"')]),
    ({"size": 1, "either": None}, [("spec.either", 'spec.either in body must be of type object: "null"')]),
    ({"size": 1, "code": "abcdef"}, [("spec.code", "spec.code in body should be at most 5 chars long")]),
    ({"size": 1, "code": "abc\n"}, [("spec.code", "should match")]),
    (
        {"size": 1, "when": "noon"},
        [("spec.when", 'Invalid value: "noon": spec.when in body must be of type date-time: "noon"')],
    ),
    ({"size": 1, "when": "2026-01-02T03:04:05Z"}, []),
    ({"size": 1, "tags": []}, [("spec.tags", "Invalid value: 0: spec.tags in body should have at least 1 items")]),
    ({"size": 1, "tags": list("abcd")}, [("spec.tags", "spec.tags in body should have at most 3 items")]),
    ({"size": 1, "tags": ["a", 5]}, [("spec.tags", 'spec.tags in body must be of type string: "integer"')]),
    (
        {"size": 1, "either": {"a": 1, "b": 2}},
        [("<nil>", '"spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives')],
    ),
    ({"size": 1, "either": {}}, [("<nil>", "Found none valid"), ("spec.either.a", "Required value")]),
    (
        {"size": 1, "port": True},
        [("spec.port", 'spec.port in body must be of type integer,string: "boolean"')],
    ),
    (
        {"size": 1, "map": {"a": 1, "b": "x"}},
        [("spec.map", "Invalid value: 1: spec.map in body should have at most 1")],
    ),
    ({"size": 1, "map": {"a": "x"}}, [("spec.map.a", "must be of type integer")]),
    ({"size": 1, "flag": 1}, [("spec.flag", 'must be of type boolean: "integer"')]),
    ({"size": 1, "unique": [1, 1.0]}, [("spec.unique", "shouldn't contain duplicates")]),
]


@pytest.mark.parametrize(("spec", "expected"), CASES)
def test_values_are_checked_in_kubernetes_words(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    causes = validate({"spec": spec}, SPEC)
    assert [cause.field for cause in causes] == [field for field, _ in expected]
    for cause, (_, text) in zip(causes, expected, strict=True):
        assert text in cause.message


def test_what_is_not_declared_is_dropped() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "K",
        "metadata": {"name": "x", "odd": 1},
        "other": 1,
        "spec": {"size": 1, "odd": {"a": 1}, "free": {"a": {"b": [1, None]}}, "map": {"k": 1}},
    }
    assert prune(obj, SPEC) == ["other", "spec.odd"]
    assert obj == {
        "apiVersion": "v1",
        "kind": "K",
        "metadata": {"name": "x", "odd": 1},
        "spec": {"size": 1, "free": {"a": {"b": [1, None]}}, "map": {"k": 1}},
    }


def test_declared_fields_within_kept_ones_are_pruned() -> None:
    schema = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            "strict": {"type": "object", "properties": {"a": {"type": "string"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "template": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "properties": {"spec": {"type": "object"}},
            },
        },
    }
    obj: dict[str, Any] = {
        "any": {"b": 1},
        "strict": {"a": "x", "b": 1},
        "list": [{"a": "x", "b": 1}],
        "template": {"apiVersion": "v1", "kind": "K", "metadata": {"labels": {"a": "b"}}, "spec": {}, "odd": 1},
    }
    assert prune(obj, schema) == ["strict.b", "list[0].b", "template.odd"]
    assert obj["any"] == {"b": 1}
    assert obj["template"]["metadata"] == {"labels": {"a": "b"}}


@pytest.mark.parametrize(
    ("schema", "value", "filled"),
    [
        ({"properties": {"a": {"default": 1}}}, {}, {"a": 1}),
        ({"properties": {"a": {"default": 1}}}, {"a": None}, {"a": 1}),
        ({"properties": {"a": {"default": 1, "nullable": True}}}, {"a": None}, {"a": None}),
        ({"properties": {"a": {"type": "string"}}}, {"a": None}, {}),
        ({"properties": {"a": {"default": {}, "properties": {"b": {"default": 2}}}}}, {}, {"a": {"b": 2}}),
        ({"properties": {"a": {"properties": {"b": {"default": 2}}}}}, {}, {}),
        ({"items": {"properties": {"b": {"default": 2}}}}, [{}, {"b": 3}], [{"b": 2}, {"b": 3}]),
        ({"items": {"default": 7}}, [None, 1], [7, 1]),
        ({"additionalProperties": {"default": 7}}, {"a": None}, {"a": 7}),
        ({"additionalProperties": {"type": "integer"}}, {"a": None}, {}),
        ({"additionalProperties": {"properties": {"b": {"default": 2}}}}, {"a": {}}, {"a": {"b": 2}}),
    ],
)
def test_defaults_fill_what_is_missing(schema: dict[str, Any], value: Any, filled: Any) -> None:
    fill(value, schema)
    assert value == filled


def test_sets_and_map_lists_hold_each_item_once() -> None:
    schema = {
        "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
        }
    }
    causes = repeated_items({"set": ["a", "b", "a"], "map": [{"name": "x", "v": 1}, {"name": "x"}]}, schema)
    assert [(c.field, c.type, c.message) for c in causes] == [
        ("set[2]", "FieldValueDuplicate", 'Duplicate value: "a"'),
        ("map[1]", "FieldValueDuplicate", 'Duplicate value: map[string]interface {}{"name":"x"}'),
    ]


def test_metadata_of_embedded_objects_is_metadata() -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = {"properties": {"t": inner, "u": inner}}
    metadata = {"name": "x", "shade": "y", "labels": {"a": "b"}, "creationTimestamp": None}
    obj = {"metadata": {"name": "o"}, "t": {"kind": "K", "metadata": metadata, "more": 1}, "u": {"metadata": "none"}}
    assert prune(obj, schema) == ["t.metadata.shade"]
    assert obj["t"] == {"kind": "K", "metadata": {"name": "x", "labels": {"a": "b"}}, "more": 1}
    assert obj["u"] == {"metadata": "none"}


def test_embedded_objects_are_objects() -> None:
    schema = {"properties": {"t": {"type": "object", "x-kubernetes-embedded-resource": True}}}
    causes = embedded_objects({"t": {"kind": "Bad Kind", "metadata": {"labels": {"a": "b c"}}}}, schema)
    assert sorted((c.field, c.type) for c in causes) == [
        ("t.apiVersion", "FieldValueRequired"),
        ("t.kind", "FieldValueInvalid"),
        ("t.metadata.labels", "FieldValueInvalid"),
    ]


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["red", "a", "", "x"])
NAMES = st.sampled_from([*SPEC["properties"]["spec"]["properties"], "spec", "odd"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_pruning_and_filling_come_to_rest(obj: dict[str, Any]) -> None:
    """Nothing is left for a second time, pruning never changes what it keeps, and checking never fails."""
    original = copy.deepcopy(obj)
    dropped = prune(obj, SPEC)
    if not dropped:
        assert obj == original
    assert prune(obj, SPEC) == []
    fill(obj, SPEC)
    filled = copy.deepcopy(obj)
    fill(obj, SPEC)
    assert obj == filled
    assert prune(obj, SPEC) == []
    validate(obj, SPEC)
    repeated_items(obj, SPEC)


def test_what_is_nested_too_deep_is_refused() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert with_go_numbers([value, 2.0]) == [value, 2]
    with pytest.raises(codec.DecodeError, match="exceeded max depth"):
        with_go_numbers([[value]])
    with pytest.raises(StatusError, match="exceeded max depth"):
        apply_patch("json", {}, b'[{"op":"add","path":"/a","value":' + b"[" * 300 + b"]" * 300 + b"}]", None)


def test_fields_that_may_not_be_are_refused_rather_than_dropped() -> None:
    closed = {"type": "object", "properties": {"spec": {"type": "object", "additionalProperties": False}}}
    obj = {"spec": {"a": 1}}
    assert prune(obj, closed) == []
    (cause,) = validate(obj, closed)
    assert cause.field == "spec"
    assert cause.message == 'Invalid value: "a": spec.a in body is a forbidden property'
