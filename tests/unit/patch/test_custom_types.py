"""Server-side apply of custom resources: their schema says what merges."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.patch import apply, track_update
from services.apiserver.patch.field_types import DEDUCED
from services.apiserver.patch.schema_types import root_type
from tillerman.api.status import StatusError

VERSION, KIND = "golden.test/v1", "Gadget"
ITEM = {"type": "object", "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}}}
TYPES = root_type(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "color": {"type": "string"},
                    "parts": {
                        "type": "array",
                        "items": ITEM,
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                    },
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "steps": {"type": "array", "items": {"type": "string"}},
                    "whole": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                        "x-kubernetes-map-type": "atomic",
                    },
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
    }
)


def applied(live: dict[str, Any] | None, manager: str, spec: dict[str, Any], **options: Any) -> dict[str, Any]:
    body = {"apiVersion": VERSION, "kind": KIND, "metadata": {"name": "g1"}, "spec": spec}
    options.setdefault("types", TYPES)
    return apply(live, body, api_version=VERSION, kind=KIND, manager=manager, time="2026-01-01T00:00:00Z", **options)


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {e["manager"]: e["fieldsV1"] for e in obj["metadata"].get("managedFields", [])}


def test_a_set_is_shared_value_by_value() -> None:
    both = applied(applied(None, "m1", {"tags": ["x", "y"]}), "m2", {"tags": ["y", "z"]})
    assert both["spec"]["tags"] == ["x", "y", "z"]
    fewer = applied(both, "m1", {"tags": ["x"]})
    assert fewer["spec"]["tags"] == ["x", "y", "z"]
    gone = applied(fewer, "m2", {"tags": []})
    assert gone["spec"]["tags"] == ["x"]
    assert owners(gone) == {"m1": {"f:spec": {"f:tags": {'v:"x"': {}}}}}


def test_a_keyed_list_is_shared_item_by_item() -> None:
    both = applied(applied(None, "m1", {"parts": [{"name": "a", "weight": 1}]}), "m2", {"parts": [{"name": "b"}]})
    assert both["spec"]["parts"] == [{"name": "a", "weight": 1}, {"name": "b"}]
    with pytest.raises(StatusError) as refusal:
        applied(both, "m2", {"parts": [{"name": "a", "weight": 5}]})
    (cause,) = refusal.value.status.details.causes
    assert cause.field == '.spec.parts[name="a"].weight'
    assert cause.message == 'conflict with "m1"'


@pytest.mark.parametrize("field", ["steps", "whole"])
def test_an_atomic_value_has_one_owner(field: str) -> None:
    first, second = (["a"], ["b"]) if field == "steps" else ({"a": "1"}, {"b": "2"})
    live = applied(None, "m1", {field: first})
    with pytest.raises(StatusError, match="conflict"):
        applied(live, "m2", {field: second})
    assert applied(live, "m2", {field: second}, force=True)["spec"][field] == second


def test_unknown_fields_that_are_kept_are_one_value_each() -> None:
    live = applied(None, "m1", {"free": {"l": [1, 2], "m": {"x": 1}}})
    assert owners(live)["m1"] == {"f:spec": {"f:free": {"f:l": {}, "f:m": {}}}}


def test_undeclared_fields_are_refused_with_their_path() -> None:
    with pytest.raises(StatusError, match=r"\.spec\.mystery: field not declared in schema"):
        applied(None, "m1", {"mystery": 1})


def test_without_a_schema_maps_merge_and_lists_are_one_value() -> None:
    live = applied(None, "m1", {"a": {"b": 1}, "l": [1]}, types=DEDUCED)
    both = applied(live, "m2", {"a": {"c": 2}}, types=DEDUCED)
    assert both["spec"] == {"a": {"b": 1, "c": 2}, "l": [1]}


def test_an_eleventh_updater_turns_the_oldest_into_ancient_changes() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "g1"}, "spec": {"free": {}}}
    old: dict[str, Any] | None = None
    for number in range(12):
        new = {**obj, "spec": {"free": {**obj["spec"]["free"], f"k{number}": 1}}}
        entries = track_update(
            old,
            new,
            manager=f"m{number}",
            time=f"2026-01-01T00:00:{number:02}Z",
            api_version=VERSION,
            kind=KIND,
            types=TYPES,
        )
        obj = old = {**new, "metadata": {"name": "g1", "managedFields": entries}}
    names = [e["manager"] for e in obj["metadata"]["managedFields"]]
    assert len(names) == 10
    assert names[0] == "ancient-changes"
