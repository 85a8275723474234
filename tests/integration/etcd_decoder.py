"""Kubernetes' storage format, read by code that shares nothing with the project: own varints, wire format and tables.

What a kube-apiserver that is started on the same etcd would read: keys, the envelope, protobuf with every field known
and in gogo-proto's order, JSON for custom resources, leases on Events. ``decode_all`` says what it could not use.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FACTS = Path(__file__).parents[1] / "unit" / "api" / "fixtures" / "api_facts.tsv.gz"
META = "k8s.io.apimachinery.pkg.apis.meta.v1."
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
VARINTS = frozenset({"bool", "int32", "int64", "uint32"})

# Under /registry: (apiVersion, kind, message's package, namespaced).
CORE, APPS, BATCH = "k8s.io.api.core.v1.", "k8s.io.api.apps.v1.", "k8s.io.api.batch.v1."
RBAC, STORAGE = "k8s.io.api.rbac.v1.", "k8s.io.api.storage.v1."
ADMISSION = "k8s.io.api.admissionregistration.v1."
PREFIXES: dict[str, tuple[str, str, str, bool]] = {
    "configmaps": ("v1", "ConfigMap", CORE, True),
    "services/endpoints": ("v1", "Endpoints", CORE, True),
    "services/specs": ("v1", "Service", CORE, True),
    "events": ("v1", "Event", CORE, True),
    "limitranges": ("v1", "LimitRange", CORE, True),
    "namespaces": ("v1", "Namespace", CORE, False),
    "minions": ("v1", "Node", CORE, False),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", CORE, True),
    "persistentvolumes": ("v1", "PersistentVolume", CORE, False),
    "pods": ("v1", "Pod", CORE, True),
    "podtemplates": ("v1", "PodTemplate", CORE, True),
    "controllers": ("v1", "ReplicationController", CORE, True),
    "resourcequotas": ("v1", "ResourceQuota", CORE, True),
    "secrets": ("v1", "Secret", CORE, True),
    "serviceaccounts": ("v1", "ServiceAccount", CORE, True),
    "mutatingwebhookconfigurations": (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        ADMISSION,
        False,
    ),
    "validatingwebhookconfigurations": (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        ADMISSION,
        False,
    ),
    "controllerrevisions": ("apps/v1", "ControllerRevision", APPS, True),
    "daemonsets": ("apps/v1", "DaemonSet", APPS, True),
    "deployments": ("apps/v1", "Deployment", APPS, True),
    "replicasets": ("apps/v1", "ReplicaSet", APPS, True),
    "statefulsets": ("apps/v1", "StatefulSet", APPS, True),
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler", "k8s.io.api.autoscaling.v2.", True),
    "cronjobs": ("batch/v1", "CronJob", BATCH, True),
    "jobs": ("batch/v1", "Job", BATCH, True),
    "certificatesigningrequests": (
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "k8s.io.api.certificates.v1.",
        False,
    ),
    "leases": ("coordination.k8s.io/v1", "Lease", "k8s.io.api.coordination.v1.", True),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice", "k8s.io.api.discovery.v1.", True),
    "ingressclasses": ("networking.k8s.io/v1", "IngressClass", "k8s.io.api.networking.v1.", False),
    "ingress": ("networking.k8s.io/v1", "Ingress", "k8s.io.api.networking.v1.", True),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", "k8s.io.api.networking.v1.", True),
    "runtimeclasses": ("node.k8s.io/v1", "RuntimeClass", "k8s.io.api.node.v1.", False),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget", "k8s.io.api.policy.v1.", True),
    "clusterrolebindings": ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", RBAC, False),
    "clusterroles": ("rbac.authorization.k8s.io/v1", "ClusterRole", RBAC, False),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding", RBAC, True),
    "roles": ("rbac.authorization.k8s.io/v1", "Role", RBAC, True),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass", "k8s.io.api.scheduling.v1.", False),
    "csidrivers": ("storage.k8s.io/v1", "CSIDriver", STORAGE, False),
    "csinodes": ("storage.k8s.io/v1", "CSINode", STORAGE, False),
    "storageclasses": ("storage.k8s.io/v1", "StorageClass", STORAGE, False),
    "volumeattachments": ("storage.k8s.io/v1", "VolumeAttachment", STORAGE, False),
    "masterleases": ("v1", "Endpoints", CORE, False),
}
# Kubernetes' two other API servers store JSON, as custom resources are.
DEFINITIONS = "apiextensions.k8s.io/customresourcedefinitions"
JSON_PREFIXES = {
    "apiregistration.k8s.io/apiservices": ("apiregistration.k8s.io/v1", "APIService", False),
    DEFINITIONS: ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
}
RANGES = {"ranges/serviceips", "ranges/servicenodeports"}


class Undecodable(Exception):
    """What is wrong with a stored value."""


@dataclass(frozen=True)
class Field:
    """``kind``: a scalar's name or a message's full name. ``key``: a map's key type."""

    name: str
    kind: str
    repeated: bool = False
    key: str = ""


@cache
def facts() -> dict[str, dict[int, Field]]:
    """Field number to field, by message."""
    table: dict[str, dict[int, Field]] = {}
    for line in gzip.decompress(FACTS.read_bytes()).decode().splitlines():
        message, _, rest = line.partition("\t")
        fields = table[message] = {}
        for fact in rest.split():
            number, name, kind = fact.split(":", 2)
            if kind.startswith("map<"):
                key, _, value = kind[4:-1].partition(",")
                fields[int(number)] = Field(name, value, key=key)
            else:
                fields[int(number)] = Field(name, kind.lstrip("*"), repeated=kind.startswith("*"))
    # Kubernetes' own types for time share the shape of Time.
    for name in ("MicroTime", "Timestamp"):
        table.setdefault(META + name, table[META + "Time"])
    return table


# -- the wire ----------------------------------------------------------------------------------------------------------


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise Undecodable("a broken varint")
        byte = raw[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return number, at


def fields_of(raw: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of each field."""
    at = 0
    while at < len(raw):
        tag, at = read_varint(raw, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value: Any
            value, at = read_varint(raw, at)
        elif wire == 2:
            size, at = read_varint(raw, at)
            value, at = raw[at : at + size], at + size
            if len(value) != size:
                raise Undecodable("a field that is cut off")
        elif wire == 1:
            value, at = raw[at : at + 8], at + 8
        else:
            raise Undecodable(f"wire type {wire}")
        yield number, wire, value


@dataclass
class Decoded:
    """A message's values by field name: scalars, bytes, Decoded, lists and dicts of them."""

    values: dict[str, Any] = field(default_factory=dict)

    def get(self, path: str, default: Any = None) -> Any:
        found: Any = self
        for name in path.split("."):
            if not isinstance(found, Decoded) or name not in found.values:
                return default
            found = found.values[name]
        return found


def decode(raw: bytes, message: str, path: str = "") -> Decoded:
    """A message that gogo-proto could have written: ascending numbers, map keys sorted, nothing unknown."""
    known = facts().get(message)
    if known is None:
        raise Undecodable(f"{path}: no message {message}")
    out = Decoded()
    last, last_key = 0, ""
    for number, wire, value in fields_of(raw):
        fact = known.get(number)
        if fact is None:
            raise Undecodable(f"{path}: {message} has no field {number}")
        here = f"{path}.{fact.name}"
        if number < last or (number == last and not (fact.repeated or fact.key)):
            raise Undecodable(f"{here}: out of order or twice")
        if number != last:
            last_key = ""
        last = number
        if fact.key:
            key, content = entry_of(value, fact, here)
            # protobuf's writer puts a key after those that it is the beginning of, Go's before them. It means nothing.
            if last_key and key <= last_key and not (last_key.startswith(key) and key != last_key):
                raise Undecodable(f"{here}: keys out of order: {last_key!r}, {key!r}")
            last_key = key
            out.values.setdefault(fact.name, {})[key] = content
        elif fact.repeated:
            out.values.setdefault(fact.name, []).append(value_of(wire, value, fact, here))
        else:
            out.values[fact.name] = value_of(wire, value, fact, here)
    return out


def entry_of(raw: Any, fact: Field, path: str) -> tuple[str, Any]:
    parts = {number: (wire, value) for number, wire, value in fields_of(raw)}
    if not set(parts) <= {1, 2}:
        raise Undecodable(f"{path}: a map's entry with fields {sorted(parts)}")
    key = parts.get(1, (2, b""))[1].decode()
    if 2 not in parts:
        return key, Decoded() if "." in fact.kind else b"" if fact.kind == "bytes" else ""
    return key, value_of(*parts[2], Field(fact.name, fact.kind), f"{path}[{key}]")


def value_of(wire: int, value: Any, fact: Field, path: str) -> Any:
    wanted = 0 if fact.kind in VARINTS else 1 if fact.kind == "double" else 2
    if wire != wanted:
        raise Undecodable(f"{path}: wire type {wire} for {fact.kind}")
    if fact.kind == "string":
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Undecodable(f"{path}: not UTF-8") from error
    if fact.kind in VARINTS:
        if fact.kind == "bool" and value > 1:
            raise Undecodable(f"{path}: a bool of {value}")
        number = value - (1 << 64) if value >= 1 << 63 else value
        if fact.kind == "int32" and not -(2**31) <= number < 2**31:
            raise Undecodable(f"{path}: {number} is no int32")
        return number
    if fact.kind in ("bytes", "double"):
        return value
    return decode(value, fact.kind, path)


# -- values and keys ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One of etcd's pairs. ``lease``: 0 without one."""

    key: str
    value: bytes
    lease: int = 0


def unwrap(value: bytes) -> tuple[str, str, bytes]:
    """(apiVersion, kind, the object's protobuf)."""
    if value[:4] != b"k8s\0":
        raise Undecodable("the value does not begin as Kubernetes' protobuf does")
    envelope = decode(value[4:], "k8s.io.apimachinery.pkg.runtime.Unknown")
    if envelope.get("contentType") or envelope.get("contentEncoding"):
        raise Undecodable("the envelope names a content type")
    if "raw" not in envelope.values:
        raise Undecodable("the envelope holds no object")
    return envelope.get("typeMeta.apiVersion", ""), envelope.get("typeMeta.kind", ""), envelope.values["raw"]


def place_of(key: str, customs: Mapping[str, tuple[str, str, bool]]) -> tuple[str, list[str]]:
    """(prefix, the rest of the key) of what is stored; ``customs``: group/plural of the custom resources."""
    parts = key.split("/")
    if parts[:2] != ["", "registry"] or not all(parts[1:]):
        raise Undecodable("the key is not /registry/...")
    for length in (2, 1):
        prefix = "/".join(parts[2 : 2 + length])
        if prefix in RANGES or prefix in PREFIXES or prefix in JSON_PREFIXES or prefix in customs:
            return prefix, parts[2 + length :]
    raise Undecodable("the key has no known prefix")


def check_meta(meta: Any, rest: list[str], *, namespaced: bool, get: Any) -> None:
    """The metadata that every stored object has, and that its key says."""
    if len(rest) != 1 + namespaced:
        raise Undecodable(f"the key ends in {rest}, for a {'namespaced' if namespaced else 'cluster-wide'} kind")
    named = (get(meta, "namespace") or "", get(meta, "name") or "")
    if named != ((rest[0] if namespaced else ""), rest[-1]):
        raise Undecodable(f"the object says {named}")
    if get(meta, "resourceVersion"):
        raise Undecodable("metadata.resourceVersion is stored")
    if get(meta, "selfLink"):
        raise Undecodable("metadata.selfLink is stored")
    if not UID.fullmatch(get(meta, "uid") or ""):
        raise Undecodable(f"metadata.uid is {get(meta, 'uid')!r}")
    if not get(meta, "creationTimestamp"):
        raise Undecodable("metadata.creationTimestamp is missing")


def check_pair(pair: Pair, customs: Mapping[str, tuple[str, str, bool]]) -> tuple[str, Any]:
    """(kind, the object). Raises Undecodable."""
    prefix, rest = place_of(pair.key, customs)
    if prefix in RANGES:
        api_version, kind, raw = unwrap(pair.value)
        if (api_version, kind) != ("v1", "RangeAllocation"):
            raise Undecodable(f"the range is a {api_version} {kind}")
        found = decode(raw, CORE + "RangeAllocation")
        if not found.get("range"):
            raise Undecodable("the allocation has no range")
        return kind, found
    as_json = JSON_PREFIXES.get(prefix) or customs.get(prefix)
    if as_json is not None:
        return as_json[1], check_json(pair, as_json, rest)
    api_version, kind, package, namespaced = PREFIXES[prefix]
    found_version, found_kind, raw = unwrap(pair.value)
    if (found_version, found_kind) != (api_version, kind):
        raise Undecodable(f"the envelope says {found_version} {found_kind}")
    found = decode(raw, package + kind)
    if prefix != "masterleases":
        check_meta(found.get("metadata"), rest, namespaced=namespaced, get=lambda meta, name: meta.get(name))
    if (prefix in ("events", "masterleases")) != bool(pair.lease):
        raise Undecodable(f"lease {pair.lease:x} on {kind}")
    return kind, found


def check_json(pair: Pair, expected: tuple[str, str, bool], rest: list[str]) -> Any:
    content = json.loads(pair.value)
    if content.get("apiVersion", "").rpartition("/")[0] != expected[0].rpartition("/")[0]:
        raise Undecodable(f"apiVersion is {content.get('apiVersion')}")
    if content.get("kind") != expected[1]:
        raise Undecodable(f"kind is {content.get('kind')}")
    check_meta(content.get("metadata") or {}, rest, namespaced=expected[2], get=dict.get)
    return content


def customs_of(pairs: Iterable[Pair]) -> dict[str, tuple[str, str, bool]]:
    """The custom resources that the stored definitions define."""
    found = {}
    for pair in pairs:
        if pair.key.startswith(f"/registry/{DEFINITIONS}/"):
            spec = json.loads(pair.value)["spec"]
            group, names = spec["group"], spec["names"]
            found[f"{group}/{names['plural']}"] = (f"{group}/v", names["kind"], spec["scope"] == "Namespaced")
    return found


def decode_all(pairs: Iterable[Pair]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """(kind and object by key, what is wrong)."""
    pairs = [pair for pair in pairs if pair.key.startswith("/registry/")]
    objects: dict[str, tuple[str, Any]] = {}
    faults: list[str] = []
    customs = customs_of(pairs)
    for pair in pairs:
        try:
            objects[pair.key] = check_pair(pair, customs)
        except (Undecodable, ValueError, AttributeError) as error:
            faults.append(f"{pair.key}: {error}")
    return objects, faults
