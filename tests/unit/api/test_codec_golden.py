"""Recordings of a real kube-apiserver: every answer in JSON beside the exact bytes it stored.

The recording server was 1.20: what has changed since is listed here, by name and with its reason.
"""

import base64
from typing import Any

import pytest
from golden import recording, unmasked
from google.protobuf.message import Message

from tillerman.api import codec, envelope
from tillerman.api.plans import plan_of
from tillerman.api.scheme import SCHEME

PROMOTED = (
    "admissionregistration.k8s.io",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "storage.k8s.io",
)
# The stored message is of a beta version that differs from every version of today.
OTHER_SHAPE = {
    "endpointslice-full": "v1beta1 has topology where v1 has deprecatedTopology",
    "hpa-v2-behavior": "v2beta2 was stored as v1, with what v1 lacks in annotations",
    "ingress-rules-tls": "stored as v1beta1, whose backends are flat",
    "ingress-v1beta1": "stored as v1beta1, whose backends are flat",
    "ingress-status-patch": "stored as v1beta1, whose backends are flat",
    "ingress-with-default-class": "stored as v1beta1, whose backends are flat",
}
# The answer is not the object that was stored.
OTHER_ANSWER = ("/scale", "/token", "/binding", "/eviction", "/bindings", "dryRun=All", "/podsecuritypolicies")
CUSTOM = ("/ex.io/", "customresourcedefinitions")
CASES = [
    case
    for case in recording("creates")["cases"]
    if not case["path"].endswith(OTHER_ANSWER) and not any(custom in case["path"] for custom in CUSTOM)
]
COMPARABLE = [case for case in CASES if case["name"] not in OTHER_SHAPE]


def as_today(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The recorded answer as today's release would give it from the same stored bytes."""
    answer = without_null_creation(answer)
    assert answer["metadata"].pop("resourceVersion").isdigit()
    kind = answer["kind"]
    if kind == "StatefulSet":  # newer field, always written
        answer["status"].setdefault("availableReplicas", 0)
    elif kind == "IngressClass" and "parameters" in answer["spec"]:  # newer field, always written
        answer["spec"]["parameters"].setdefault("scope", None)
    elif kind == "CSINode":  # newer struct
        answer.setdefault("status", {})
    elif name in ("pv-hostpath", "pv-nfs-full", "pv-csi", "pv-local", "pv-iscsi", "pvc-empty-class"):
        # Stored before it was defaulted, defaulted when answered.
        assert answer["status"] == {"phase": "Pending"}
        answer["status"] = {}
    elif name in ("job-min", "job-zero-parallelism"):  # the same, for labels taken from the template
        del answer["metadata"]["labels"]
    return answer


def canonical(message: Message) -> Message:
    """Drops what Go writes although it is empty, so that equal objects compare equal."""
    message.DiscardUnknownFields()  # type: ignore[no-untyped-call]
    for field, value in message.ListFields():
        if field.message_type is None:
            if not field.is_repeated and not value and not _pointer(field):
                message.ClearField(field.name)
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type:
                for item in value.values():
                    canonical(item)
        elif field.is_repeated:
            for item in value:
                canonical(item)
        else:
            canonical(value)
            if not _pointer(field) and not value.ListFields():
                message.ClearField(field.name)
    return message


def _pointer(field: Any) -> bool:
    from tillerman.pb import options_pb2

    return bool(field.GetOptions().Extensions[options_pb2.k8s].pointer)


def without_null_creation(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_null_creation(v) for k, v in value.items() if not (k == "creationTimestamp" and v is None)}
    return [without_null_creation(v) for v in value] if isinstance(value, list) else value


def message_type_of(case: dict[str, Any]) -> type[Message]:
    stored = envelope.unwrap(base64.b64decode(case["etcd_value_base64"]))
    group, _, version = stored.api_version.rpartition("/")
    api_version = f"{group}/v1" if group in PROMOTED and version == "v1beta1" else stored.api_version
    return SCHEME.message_type(api_version, stored.kind)


@pytest.mark.parametrize("case", COMPARABLE, ids=[c["name"] for c in COMPARABLE])
def test_json_and_stored_bytes_are_the_same_message(case: dict[str, Any]) -> None:
    message_type = message_type_of(case)
    from_store = message_type.FromString(envelope.unwrap(base64.b64decode(case["etcd_value_base64"])).raw)
    answer = as_today(case["name"], unmasked(case))
    assert codec.to_dict(from_store, kind=(answer["apiVersion"], answer["kind"])) == answer

    # Fields dropped since 1.20 (clusterName, template names) were all empty: nothing is lost.
    assert not any(_payload(field.data) for field in _unknown_of(from_store))
    assert canonical(codec.from_dict(answer, message_type, strict=True)) == canonical(from_store)


def _payload(data: Any) -> bool:
    """Whether a field of a wire type we do not know holds anything but zeros and empty text."""
    return (
        any(_payload(field.data) for field in data)
        if hasattr(data, "__iter__") and not isinstance(data, bytes)
        else bool(data)
    )


def _unknown_of(message: Message) -> Any:
    from google.protobuf.unknown_fields import UnknownFieldSet

    yield from UnknownFieldSet(message)
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            yield from _unknown_of(item)


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_envelope_is_byte_exact(case: dict[str, Any]) -> None:
    value = base64.b64decode(case["etcd_value_base64"])
    stored = envelope.unwrap(value)
    assert envelope.wrap(stored.api_version, stored.kind, stored.raw) == value


def test_plans_are_compiled_once() -> None:
    descriptor = SCHEME.lookup("pods").message.DESCRIPTOR
    assert plan_of(descriptor) is plan_of(descriptor)
