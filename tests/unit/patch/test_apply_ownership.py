"""Who owns what after updates and applies: times, names, and the hand-over from client-side apply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.apiserver import patch as patches
from services.apiserver.patch.last_applied import ANNOTATION
from services.apiserver.registry.managed import program_of
from tillerman.api.status import StatusError

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
OWN = {"f:data": {"f:a": {}}}


def config_map(data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **metadata}, "data": data}


def entry(manager: str, operation: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": EARLY,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def applied(live: dict[str, Any], patch: dict[str, Any], manager: str = "kubectl") -> dict[str, Any]:
    return patches.apply(live, patch, api_version="v1", kind="ConfigMap", manager=manager, time=LATE)


@pytest.mark.parametrize(
    ("after", "time"),
    [
        # Another value of what it owns already is no new claim.
        ({"a": "2"}, EARLY),
        ({"a": "2", "b": "1"}, LATE),
    ],
)
def test_the_time_of_an_updater_is_that_of_its_newest_field(after: dict[str, str], time: str) -> None:
    old = config_map({"a": "1"}, managedFields=[entry("up", "Update", OWN)])
    new = config_map(after, managedFields=old["metadata"]["managedFields"])
    (found,) = patches.track_update(old, new, manager="up", time=LATE, api_version="v1", kind="ConfigMap")
    assert found["time"] == time


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("kubectl/v1.32.0 (linux/amd64)", "kubectl"),
        ("/v1", ""),
        ("two words/1", "two words"),
        ("a\tb\x00c", "abc"),
        ("x" * 200, "x" * 128),
        ("é" * 100 + "/1", "é" * 64),
        ("x" + "é" * 100, "x" + "é" * 63),
    ],
)
def test_the_program_of_a_user_agent(agent: str, name: str) -> None:
    assert program_of(agent) == name


def client_side(data: dict[str, str], annotated: dict[str, Any] | str) -> dict[str, Any]:
    """Applied in the client: everything is an updater's, and the annotation tells what was applied."""
    text = annotated if isinstance(annotated, str) else json.dumps(annotated)
    fields = {"f:data": {f"f:{key}": {} for key in data}}
    return config_map(data, annotations={ANNOTATION: text}, managedFields=[entry("client", "Update", fields)])


@pytest.mark.parametrize(
    ("annotation", "manager", "conflicts"),
    [
        (config_map({"a": "1"}), "kubectl", []),
        (config_map({"a": "1"}), "other", [".data.a"]),
        # Somebody has changed it since.
        (config_map({"a": "0"}), "kubectl", [".data.a"]),
        ({**config_map({"a": "1"}), "apiVersion": "v2"}, "kubectl", [".data.a"]),
        (config_map({"b": "1"}), "kubectl", [".data.a"]),
        ("{", "kubectl", [".data.a"]),
        ("[]", "kubectl", [".data.a"]),
    ],
)
def test_kubectl_takes_over_what_it_applied_in_the_client(annotation: Any, manager: str, conflicts: list[str]) -> None:
    live, wanted = client_side({"a": "1", "b": "1"}, annotation), config_map({"a": "2"})
    if conflicts:
        with pytest.raises(StatusError) as refused:
            applied(live, wanted, manager)
        assert [cause.field for cause in refused.value.status.details.causes] == conflicts
        return
    result = applied(live, wanted, manager)
    assert result["data"] == {"a": "2", "b": "1"}
    assert json.loads(result["metadata"]["annotations"][ANNOTATION]) == wanted


def test_an_annotation_is_kept_up_to_date_and_never_begun() -> None:
    wanted = config_map({"a": "1"}, annotations={"k": "v"})
    result = applied(client_side({"a": "1"}, config_map({"a": "1"})), wanted)
    assert json.loads(result["metadata"]["annotations"][ANNOTATION]) == wanted
    assert applied(result, wanted)["metadata"] == result["metadata"]
    fresh = applied(config_map({"a": "1"}, managedFields=[entry("kubectl", "Apply", OWN)]), wanted)
    assert fresh["metadata"]["annotations"] == {"k": "v"}
