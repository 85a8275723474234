"""What is checked of every written object before its kind's own rules: its kind, and its owners."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver import patch as patches
from services.apiserver.registry.context import Context
from services.apiserver.registry.decoding import decode
from services.apiserver.registry.owners import distinct_owners
from tillerman.api.status import StatusError
from tillerman.pb.k8s import autoscaling_v1_pb2, core_v1_pb2, meta_v1_pb2

NAMED = {"metadata": {"name": "x"}}


@pytest.mark.parametrize(
    ("message", "given", "fault"),
    [
        (core_v1_pb2.ConfigMap, {"apiVersion": "v1", "kind": "ConfigMap"}, ""),
        (core_v1_pb2.ConfigMap, {}, ""),
        (core_v1_pb2.ConfigMap, {"kind": None}, ""),
        (core_v1_pb2.ConfigMap, {"kind": "Secret"}, "unable to decode /v1, Kind=Secret into *core.ConfigMap"),
        (core_v1_pb2.ConfigMap, {"kind": "Bogus"}, 'no kind "Bogus" is registered for version "v1"'),
        (core_v1_pb2.ConfigMap, {"apiVersion": "v2"}, 'no kind "ConfigMap" is registered for version "v2"'),
        (
            core_v1_pb2.ConfigMap,
            {"apiVersion": "apps/v1", "kind": "Deployment"},
            "unable to decode apps/v1, Kind=Deployment into *core.ConfigMap",
        ),
        (autoscaling_v1_pb2.Scale, {"apiVersion": "autoscaling/v1", "kind": "Scale"}, ""),
        # Another version of the same kind says no less.
        (autoscaling_v1_pb2.HorizontalPodAutoscaler, {"apiVersion": "autoscaling/v2"}, ""),
    ],
)
def test_a_patch_gives_an_object_no_other_kind(message: Any, given: dict[str, Any], fault: str) -> None:
    if not fault:
        assert decode(message, {**NAMED, **given}, Context()).metadata.name == "x"
        return
    with pytest.raises(StatusError) as refused:
        decode(message, {**NAMED, **given}, Context())
    (cause,) = refused.value.status.details.causes
    assert (refused.value.code, cause.field) == (422, "patch") and fault in cause.message


def test_a_strategic_patch_has_no_say_in_the_kind() -> None:
    current = {"apiVersion": "v1", "kind": "ConfigMap", **NAMED}
    patch = b'{"kind":"Secret","apiVersion":null}'
    assert patches.apply_patch("strategic", current, patch, core_v1_pb2.ConfigMap.DESCRIPTOR) == current


@pytest.mark.parametrize(
    ("patch_type", "custom", "taken"),
    [
        ("application/merge-patch+json; charset=utf-8", True, True),
        ("application/strategic-merge-patch+json", False, True),
        ("application/strategic-merge-patch+json", True, False),
        ("application/json", False, False),
        ("", True, False),
    ],
)
def test_which_patches_a_resource_takes(patch_type: str, custom: bool, taken: bool) -> None:
    if taken:
        patches.check_type(patch_type, custom=custom)
        return
    with pytest.raises(StatusError) as refused:
        patches.check_type(patch_type, custom=custom)
    assert refused.value.code == 415


def owner(uid: str, name: str = "x") -> meta_v1_pb2.OwnerReference:
    return meta_v1_pb2.OwnerReference(apiVersion="v1", kind="Pod", name=name, uid=uid)


@pytest.mark.parametrize(
    ("given", "kept", "repeated"),
    [
        (["1"], ["1"], ""),
        (["1", "2"], ["1", "2"], ""),
        (["1", "2", "1", "1", "2"], ["1", "2"], "1, 2"),
    ],
)
def test_owners_that_stand_there_twice_are_told_of_and_taken_out(
    given: list[str], kept: list[str], repeated: str
) -> None:
    meta, context = meta_v1_pb2.ObjectMeta(ownerReferences=[owner(uid) for uid in given]), Context()
    distinct_owners(meta, context)
    assert [reference.uid for reference in meta.ownerReferences] == kept
    assert [warning.rpartition(": ")[2] for warning in context.warnings] == ([repeated] if repeated else [])
