"""Laws that patches keep, over random objects: RFC 6902 and 7386 with their own vectors, strategic merge, apply."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.apiserver import patch as patches
from services.apiserver.patch import field_paths, json_patch, merge_patch
from services.apiserver.patch.strategic import strategic_merge
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError
from tillerman.cli.merge import three_way

Json = dict[str, Any]
laws = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
KEYS = st.sampled_from(["a", "b", "c/d", "e~f", "", "0"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "y"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value if item is not None]
    return value


# -- JSON patch --------------------------------------------------------------------------------------------------------

RFC_6902 = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "q", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "b"}], {"baz": "b", "foo": "bar"}),
    (
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        {"foo": ["a", "g", "c", "e"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["a", "c", "e", "g"]},
    ),
    ({"baz": "qux", "foo": ["a", 2, "c"]}, [{"op": "test", "path": "/foo/1", "value": 2}], None),
    ({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], StatusError),
    ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "q", "xyz": 1}], {"foo": "bar", "baz": "q"}),
    ({"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], StatusError),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], None),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], StatusError),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
]


@pytest.mark.parametrize(("document", "operations", "expected"), RFC_6902)
def test_vectors_of_rfc_6902(document: Json, operations: list[Json], expected: Any) -> None:
    before = copy.deepcopy(document)
    if expected is StatusError:
        with pytest.raises(StatusError):
            json_patch.apply(document, operations)
    else:
        assert json_patch.apply(document, operations) == (before if expected is None else expected)
    assert document == before


def pointer(*steps: object) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def difference(old: Any, new: Any, *path: object) -> list[Json]:
    """Operations that make ``new`` of ``old``."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [{"op": "remove", "path": pointer(*path, key)} for key in old if key not in new]
        more = [{"op": "add", "path": pointer(*path, key), "value": new[key]} for key in new if key not in old]
        return gone + more + [op for key in new if key in old for op in difference(old[key], new[key], *path, key)]
    return [] if old == new and type(old) is type(new) else [{"op": "replace", "path": pointer(*path), "value": new}]


@laws
@given(old=OBJECTS, new=OBJECTS)
def test_json_patch_carries_a_difference_over_whole(old: Json, new: Json) -> None:
    before = copy.deepcopy(old)
    operations = difference(old, new)
    assert json.dumps(json_patch.apply(old, operations), sort_keys=True) == json.dumps(new, sort_keys=True)
    assert old == before
    # One operation that does not fit undoes them all: nothing of the patch is left.
    with pytest.raises(StatusError):
        json_patch.apply(old, [*operations, {"op": "remove", "path": "/nonesuch/at/all"}])
    assert old == before


@laws
@given(document=OBJECTS, value=VALUES)
def test_json_patch_tests_moves_and_copies(document: Json, value: Any) -> None:
    placed = json_patch.apply(document, [{"op": "add", "path": "/new", "value": value}])
    assert json_patch.apply(placed, [{"op": "test", "path": "/new", "value": value}]) == placed
    copied = json_patch.apply(placed, [{"op": "copy", "from": "/new", "path": "/copy"}])
    assert copied["copy"] == copied["new"]
    moved = json_patch.apply(placed, [{"op": "move", "from": "/new", "path": "/copy"}])
    assert moved == {**document, "copy": value}


# -- merge patch -------------------------------------------------------------------------------------------------------

RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "expected"), RFC_7386)
def test_vectors_of_rfc_7386(target: Json, patch: Json, expected: Json) -> None:
    assert merge_patch.apply(target, patch) == expected


def merge_difference(old: Json, new: Json) -> Json:
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            patch[key] = merge_difference(before, value)
        elif value != before or type(value) is not type(before):
            patch[key] = value
    return patch


@laws
@given(old=OBJECTS.map(without_nulls), new=OBJECTS.map(without_nulls), patch=OBJECTS)
def test_merge_patch_carries_a_difference_over_and_is_idempotent(old: Json, new: Json, patch: Json) -> None:
    assert merge_patch.apply(old, merge_difference(old, new)) == new
    once = merge_patch.apply(old, patch)
    assert merge_patch.apply(once, patch) == once


# -- strategic merge ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
TEXT = st.sampled_from(["1", "2", "3"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier", "x"]), TEXT, max_size=3)

SOME_LABELS = st.dictionaries(st.sampled_from(["app", "tier", "x"]), TEXT, min_size=1, max_size=3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """An object with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def keyed(
    key: str, items: st.SearchStrategy[Json], names: st.SearchStrategy[Any] = NAMES
) -> st.SearchStrategy[list[Json]]:
    """A list whose items have different keys."""
    return st.lists(st.tuples(names, items), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(
        lambda pairs: [{key: name, **item} for name, item in pairs]
    )


CONTAINERS = keyed(
    "name",
    some(
        image=TEXT,
        command=st.lists(TEXT, min_size=1, max_size=3),
        env=keyed("name", some(value=TEXT)),
        ports=keyed("containerPort", some(name=TEXT), st.integers(1, 3)),
        resources=some(limits=st.dictionaries(st.sampled_from(["cpu", "memory"]), TEXT, max_size=2)),
        volumeMounts=keyed("mountPath", st.fixed_dictionaries({"name": NAMES})),
    ),
)
PODS = st.fixed_dictionaries(
    {"containers": CONTAINERS},
    optional={
        "initContainers": CONTAINERS,
        "nodeSelector": LABELS,
        "tolerations": st.lists(some(key=TEXT, value=TEXT), min_size=1, max_size=2),
        "imagePullSecrets": keyed("name", st.just({})),
        "hostAliases": keyed("ip", some(hostnames=st.lists(TEXT, max_size=2))),
        "priority": st.integers(0, 3),
    },
)
DEPLOYMENTS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.just("d")},
            optional={"labels": LABELS, "finalizers": st.lists(NAMES, min_size=1, max_size=3, unique=True)},
        ),
        "spec": st.fixed_dictionaries(
            {"template": st.fixed_dictionaries({"spec": PODS}, optional={"metadata": some(labels=LABELS)})},
            optional={"replicas": st.integers(0, 3)},
        ),
    }
)
DEPLOYMENT = SCHEME.by_kind("apps/v1", "Deployment").message.DESCRIPTOR


@laws
@given(old=DEPLOYMENTS, new=DEPLOYMENTS)
def test_a_client_side_difference_is_what_the_server_makes_of_it(old: Json, new: Json) -> None:
    patch = three_way(old, new, old, DEPLOYMENT)
    assert orderless(strategic_merge(old, patch, DEPLOYMENT)) == orderless(new)
    assert strategic_merge(new, three_way(new, new, new, DEPLOYMENT), DEPLOYMENT) == new


@laws
@given(old=DEPLOYMENTS, new=DEPLOYMENTS)
def test_what_others_set_survives_an_apply(old: Json, new: Json) -> None:
    for said in (old, new):
        # A map that is not mentioned any more goes whole, as with kubectl.
        said["metadata"].setdefault("labels", {})
    live = copy.deepcopy(old)
    live["metadata"]["labels"]["others"] = "here"
    live["spec"]["template"]["spec"]["containers"].append({"name": "injected", "image": "sidecar"})
    live["spec"]["paused"] = True
    merged = strategic_merge(live, three_way(old, new, live, DEPLOYMENT), DEPLOYMENT)
    assert merged["metadata"]["labels"].pop("others") == "here"
    assert merged["spec"].pop("paused") is True
    containers = merged["spec"]["template"]["spec"]["containers"]
    assert {"name": "injected", "image": "sidecar"} in containers
    containers.remove({"name": "injected", "image": "sidecar"})
    assert orderless(without_empty(merged)) == orderless(without_empty(new))


def without_empty(value: Any) -> Any:
    """Taking the last member out of a map leaves the map."""
    if isinstance(value, dict):
        shown = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in shown.items() if item not in (None, {}, [])}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


UNORDERED = frozenset({"finalizers", "imagePullSecrets"})


def orderless(value: Any, name: str = "") -> Any:
    """Lists of scalars that are merged as sets have no order of their own."""
    if isinstance(value, dict):
        return {key: orderless(item, key) for key, item in value.items()}
    if isinstance(value, list):
        items = [orderless(item) for item in value]
        return sorted(items, key=json.dumps) if name in UNORDERED else items
    return value


def as_sets(value: Any) -> Any:
    """Where an element of a list stands is not compared."""
    if isinstance(value, dict):
        return {key: as_sets(item) for key, item in value.items()}
    return sorted(map(as_sets, value), key=json.dumps) if isinstance(value, list) else value


# -- server-side apply -------------------------------------------------------------------------------------------------


def apply(live: Json | None, body: Json, manager: str, *, force: bool = False) -> Json:
    return patches.apply(
        live,
        {"apiVersion": "apps/v1", "kind": "Deployment", **body},
        api_version="apps/v1",
        kind="Deployment",
        manager=manager,
        time="2026-01-01T00:00:00Z",
        force=force,
    )


def record_of(obj: Json) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"]["managedFields"]}


def unrecorded(obj: Json) -> Json:
    shown = copy.deepcopy(obj)
    shown["metadata"].pop("managedFields", None)
    return without_empty(shown)


@laws
@given(body=DEPLOYMENTS, other=DEPLOYMENTS)
def test_apply_is_idempotent_and_gives_up_what_is_left_out(body: Json, other: Json) -> None:
    once = apply(None, body, "one")
    assert apply(once, body, "one") == once
    # Who was alone and applies something else leaves exactly that.
    changed = apply(once, other, "one")
    assert as_sets(unrecorded(changed)) == as_sets(
        without_empty({"apiVersion": "apps/v1", "kind": "Deployment", **other})
    )


@laws
@given(first=SOME_LABELS, second=SOME_LABELS)
def test_managers_of_different_fields_commute(first: Json, second: Json) -> None:
    one = {"metadata": {"name": "d", "labels": first}}
    two = {"metadata": {"name": "d", "annotations": second}, "spec": {"replicas": 3}}
    there = apply(apply(None, one, "one"), two, "two")
    back = apply(apply(None, two, "two"), one, "one")
    assert unrecorded(there) == unrecorded(back) and record_of(there) == record_of(back)


@laws
@given(mine=SOME_LABELS, theirs=SOME_LABELS)
def test_conflicts_are_exactly_what_differs_and_force_takes_it(mine: Json, theirs: Json) -> None:
    live = apply(None, {"metadata": {"name": "d", "labels": theirs}}, "theirs")
    body = {"metadata": {"name": "d", "labels": mine}}
    differing = {f".metadata.labels.{key}" for key in mine if key in theirs and mine[key] != theirs[key]}
    if differing:
        with pytest.raises(StatusError) as caught:
            apply(live, body, "mine")
        assert {cause.field for cause in caught.value.status.details.causes} == differing
    taken = apply(live, body, "mine", force=True)
    assert (taken["metadata"].get("labels") or {}) == {**theirs, **mine}
    owned = record_of(taken).get("theirs", {}).get("f:metadata", {}).get("f:labels", {})
    for key in mine:
        assert (f"f:{key}" in owned) == (key in theirs and mine[key] == theirs[key])


# -- managedFields -----------------------------------------------------------------------------------------------------

ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'k:{"name":"y"}', 'v:"z"', "v:1", "i:0"])
PATHS = st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple)


@laws
@given(paths=st.frozensets(PATHS, max_size=12))
def test_fields_v1_is_read_as_it_is_written(paths: field_paths.FieldSet) -> None:
    encoded = field_paths.encode(paths)
    assert field_paths.decode(encoded) == paths
    assert field_paths.encode(field_paths.decode(json.loads(json.dumps(encoded)))) == encoded
