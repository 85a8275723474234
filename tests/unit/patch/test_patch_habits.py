"""Where the libraries that Kubernetes patches with have habits of their own."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.patch import json_patch, merge_patch
from services.apiserver.patch.strategic import strategic_merge
from tillerman.api.status import StatusError
from tillerman.pb.k8s import core_v1_pb2 as core

REFUSED = object()
DOCUMENT = {"m": {"a": "1"}, "l": ["x", "y", "z"], "n": 1}


def op(kind: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": kind, "path": path, **more}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        # A missing member is null where it is looked at; a missing parent never is.
        ([op("replace", "/m/b", value="2")], {"m": {"a": "1", "b": "2"}}),
        ([op("replace", "/k/b", value="2")], REFUSED),
        ([op("replace", "/m/a")], {"m": {"a": None}}),
        ([{"op": "copy", "path": "/m/b", "from": "/m/zz"}], {"m": {"a": "1", "b": None}}),
        ([{"op": "move", "path": "/m/b", "from": "/m/zz"}], REFUSED),
        ([{"op": "move", "path": "/m/b"}], REFUSED),
        ([op("test", "/m/zz", value=None)], {}),
        ([op("test", "/m/a")], REFUSED),
        ([op("test", "/n", value=1.0)], REFUSED),
        ([op("test", "/n", value=True)], REFUSED),
        ([op("test", "/l", value=["x", "y", "z"])], {}),
        ([op("remove", "/m/zz")], REFUSED),
        # Items are counted from the end where one is added or removed only.
        ([op("add", "/l/-1", value="w")], {"l": ["x", "y", "z", "w"]}),
        ([op("add", "/l/-4", value="w")], {"l": ["w", "x", "y", "z"]}),
        ([op("add", "/l/-5", value="w")], REFUSED),
        ([op("remove", "/l/-1")], {"l": ["x", "y"]}),
        ([op("remove", "/l/-4")], REFUSED),
        ([op("replace", "/l/-1", value="w")], REFUSED),
        ([op("test", "/l/-1", value="z")], REFUSED),
        ([op("replace", "/l/3", value="w")], REFUSED),
        ([op("replace", "/l/-", value="w")], REFUSED),
        ([op("remove", "/l/-")], REFUSED),
        ([op("add", "/l/4", value="w")], REFUSED),
        ([op("add", "/l/1_0", value="w")], REFUSED),
        ([op("add", "/l/x", value="w")], REFUSED),
        ([op("add", "/l/01", value="w")], {"l": ["x", "w", "y", "z"]}),
        ([{"op": "copy", "path": "/l/0", "from": "/l/2"}], {"l": ["z", "x", "y", "z"]}),
        # Not patches, or patches of nothing.
        (None, {}),
        ([], {}),
        ([None], REFUSED),
        ([op("add", "/m/c", value="3"), 7], REFUSED),
        ([{"op": ["add"], "path": "/m/c"}], REFUSED),
        ([{"op": "add", "path": 5}], REFUSED),
        ([{"op": "copy", "path": f"/m/x{i}", "from": "/m"} for i in range(30)], REFUSED),
    ],
)
def test_json_patch(operations: Any, expected: Any) -> None:
    if expected is REFUSED:
        with pytest.raises(StatusError):
            json_patch.apply(DOCUMENT, operations)
    else:
        assert json_patch.apply(DOCUMENT, operations) == {**DOCUMENT, **expected}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"l": ["a", None, {"k": None, "v": [None, 1]}]}, {"l": ["a", {"v": [1]}]}),
        ({"new": {"keep": 1, "drop": None, "l": [None]}}, {"new": {"keep": 1, "l": []}}),
        ({"n": {"a": None}}, {"n": {}}),
        ({"m": None, "zz": None}, {"m": REFUSED}),
    ],
)
def test_merge_patch(patch: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = {key: value for key, value in {**DOCUMENT, **expected}.items() if value is not REFUSED}
    assert merge_patch.apply(DOCUMENT, patch) == wanted


POD = {"metadata": {"finalizers": ["a", "b"]}, "spec": {"containers": [{"name": "c", "args": ["1", "2"]}]}}


@pytest.mark.parametrize(
    ("patch", "refusal"),
    [
        (["x"], "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ({"metadata": {"$patch": "merge", "name": "p"}}, "unknown patch type: merge in map: map[$patch:merge name:p]"),
        ({"spec": {"containers": [{"name": "c", "$patch": "merge"}]}}, "merging lists cannot yet be specified"),
        ({"spec": {"containers": [{"name": "c", "$patch": "x"}]}}, "unknown patch type: x in map"),
        ({"spec": {"containers": [{"$patch": "delete"}]}}, "does not contain declared merge key: name"),
        ({"metadata": {"$retainKeys": "name"}}, "invalid patch format of retainKeys"),
        ({"metadata": {"$retainKeys": ["name"], "uid": "x"}}, "invalid patch format of retainKeys"),
    ],
)
def test_strategic_merge_patches_that_are_refused(patch: Any, refusal: str) -> None:
    with pytest.raises(StatusError) as refused:
        strategic_merge(POD, patch, core.Pod.DESCRIPTOR)
    assert refusal in refused.value.message and refused.value.code == 400


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (None, POD),
        ({"metadata": {"$retainKeys": ["name"], "uid": None}, "spec": None}, {"metadata": {}}),
        (
            {"metadata": None, "spec": {"priority": 2.0, "terminationGracePeriodSeconds": 2.5}},
            {"spec": {**POD["spec"], "priority": 2, "terminationGracePeriodSeconds": 2.5}},
        ),
        # Whatever the list's own strategy.
        (
            {"spec": {"containers": [{"name": "c", "$deleteFromPrimitiveList/args": ["1"]}]}},
            {**POD, "spec": {"containers": [{"name": "c", "args": ["2"]}]}},
        ),
        (
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b", "x"]}, "spec": None},
            {"metadata": {"finalizers": ["a"]}},
        ),
    ],
)
def test_strategic_merge(patch: Any, expected: Any) -> None:
    assert strategic_merge(POD, patch, core.Pod.DESCRIPTOR) == expected
