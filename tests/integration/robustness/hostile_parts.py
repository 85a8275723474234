"""What hostile requests are made of, whichever front they go to: manifests, patches, options, tokens.

Each body carries its request's number in an annotation: what is stored afterwards tells which request stored it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from mutations import NUMBERS, STRINGS, broken, chosen, mutated, nested_fields, odd_fields, scalar, text_of

from tests.fixtures.golden import cases
from tillerman.api import codec, envelope
from tillerman.api.scheme import SCHEME, ResourceInfo

ANNOTATION = "fuzz.test/request"
NAMESPACE = "fuzz"
JSON, YAML = "application/json", "application/yaml"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
CONTENT_TYPES = (
    JSON,
    YAML,
    envelope.PROTOBUF,
    *PATCH_TYPES,
    "",
    "text/plain",
    "application/json; charset=latin-1",
    "application/cbor",
    "multipart/form-data; boundary=x",
    "a/b/c;;==",
)
SELECTORS = (
    "a=b",
    "a!=b",
    "a in (b,c)",
    "a notin (b)",
    "!a",
    "a",
    "a in",
    "a in (",
    "a=b,,c",
    ",",
    "=",
    "!!a",
    "a==b==c",
    "a>1",
    "a<x",
    "a in ()",
    "x/y/z=a",
    "a=" + "b" * 64,
    "()",
    "in in (in)",
    "\0",
    "metadata.name=a",
    "metadata.name!=a",
    "spec.nodeName=a,status.phase!=Running",
    "status.phase=",
    "nonesuch=1",
    "metadata.namespace=fuzz",
    "a\\,b=c",
    "metadata.name=a,metadata.name=b",
)


@dataclass(frozen=True, slots=True)
class Call:
    """``raw``: an HTTP request, or a gRPC request message of ``method``. ``streams``: it may go on without end."""

    number: int
    method: str
    raw: bytes
    streams: bool = False
    upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    info: ResourceInfo
    namespace: str
    content: dict[str, Any]


@cache
def manifests() -> tuple[Manifest, ...]:
    """The recorded creates (accepted and refused) and the bases of the recorded patches: every kind is among them."""
    found = []
    for name, field in (("creates", "request"), ("invalid", "request"), ("patches", "base")):
        for case in cases(name):
            content = case.get(field)
            try:
                info = SCHEME.by_kind(content["apiVersion"], content["kind"])
            except (LookupError, TypeError):
                continue
            found.append(Manifest(info, NAMESPACE if info.namespaced else "", content))
    return tuple(found)


@cache
def patches() -> tuple[tuple[str, Any], ...]:
    steps = [step for case in cases("patches") for step in case["steps"] if "patch" in step]
    return tuple((step["content_type"], step["patch"]) for step in steps)


@cache
def resources() -> tuple[ResourceInfo, ...]:
    return tuple(SCHEME.resources(also_served=True))


class Parts:
    """What came before in this object has its say too."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._names: list[tuple[Manifest, str]] = []

    def _manifest(self, number: int) -> tuple[Manifest, dict[str, Any]]:
        """A manifest with a name of its own and its request's number."""
        manifest = self.random.choice(manifests())
        content = json.loads(json.dumps(manifest.content))
        meta = content.get("metadata")
        if not isinstance(meta, dict):
            meta = content["metadata"] = {}
        meta["namespace"] = manifest.namespace
        if not manifest.namespace:
            del meta["namespace"]
        meta["name"] = f"n{number}"
        annotations = meta.get("annotations")
        meta["annotations"] = {**(annotations if isinstance(annotations, dict) else {}), ANNOTATION: mark_of(number)}
        return manifest, content

    def _known(self) -> tuple[Manifest, str]:
        """Something that may be there."""
        if self._names and self.random.random() < 0.9:
            return self.random.choice(self._names[-200:])
        return self.random.choice(manifests()), self.random.choice(("nonesuch", "default", *STRINGS))

    def _remember(self, manifest: Manifest, number: int) -> None:
        self._names.append((manifest, f"n{number}"))

    def _mutated(self, content: Any) -> Any:
        return mutated(self.random, content, self.random.choice((0, 0, 0, 1, 1, 2, 5)))

    def _json(self, content: Any) -> bytes:
        raw = text_of(self.random, self._mutated(content))
        return broken(self.random, raw) if self.random.random() < 0.15 else raw

    def _message(self, content: dict[str, Any], info: ResourceInfo) -> bytes:
        """The protobuf of a manifest, often broken."""
        random = self.random
        try:
            raw = codec.from_dict(self._mutated(content), info.message).SerializeToString()
        except (codec.DecodeError, ValueError, TypeError, AttributeError, RecursionError):
            raw = codec.from_dict(content, info.message).SerializeToString() if _decodes(content, info) else b""
        return chosen(
            random,
            (6, lambda: raw),
            (3, lambda: broken(random, raw)),
            (2, lambda: raw + odd_fields(random)),
            (1, lambda: raw + nested_fields(random, random.choice((50, 99, 150, 5_000)))),
            (1, lambda: random.randbytes(random.randrange(200))),
        )

    def _envelope(self, content: dict[str, Any], info: ResourceInfo) -> bytes:
        random = self.random
        api_version, kind = info.api_version, info.kind
        if random.random() < 0.15:
            api_version, kind = random.choice((("v1", "Pod"), ("", ""), ("v9", "Nonesuch"), (api_version, "List")))
        raw = envelope.wrap(api_version, kind, self._message(content, info))
        return broken(random, raw) if random.random() < 0.15 else raw

    def _patch(self, number: int) -> tuple[str, bytes]:
        random = self.random
        kind, patch = random.choice(patches())
        mark = {"metadata": {"annotations": {ANNOTATION: mark_of(number)}}}
        if kind == PATCH_TYPES[0]:
            if isinstance(patch, list):
                patch = [*patch, {"op": "add", "path": f"/metadata/annotations/{ANNOTATION.replace('/', '~1')}"}]
                patch[-1]["value"] = str(number)
        elif isinstance(patch, dict):
            patch = {**patch, **mark}
        if random.random() < 0.2:
            kind = random.choice(CONTENT_TYPES)
        return kind, self._json(patch)

    def _token(self) -> str:
        random = self.random
        token = {"v": "meta.k8s.io/v1", "rv": random.choice((1, *NUMBERS)), "start": random.choice(STRINGS)}
        raw = text_of(random, mutated(random, token, random.choice((0, 1, 1))))
        return chosen(
            random,
            (4, lambda: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
            (1, lambda: random.choice(STRINGS)),
        )

    def _value(self, name: str) -> str:
        """A value for a query parameter, sensible about half the time."""
        random = self.random
        if random.random() < 0.3:
            return str(scalar(random))
        match name:
            case "continue":
                return self._token()
            case "labelSelector" | "fieldSelector":
                return random.choice(SELECTORS)
            case "limit" | "gracePeriodSeconds" | "resourceVersion" | "tailLines" | "limitBytes" | "sinceSeconds":
                return str(random.choice((0, 1, 2, 100, *NUMBERS)))
            case "timeoutSeconds":
                return "1"
            case "resourceVersionMatch":
                return random.choice(("Exact", "NotOlderThan", "x"))
            case "propagationPolicy":
                return random.choice(("Orphan", "Foreground", "Background", "x"))
            case "fieldValidation":
                return random.choice(("Strict", "Warn", "Ignore", "x"))
            case "dryRun":
                return random.choice(("All", "", "x"))
            case "includeObject":
                return random.choice(("None", "Metadata", "Object", "x"))
        return random.choice(("1", "true", "false", "a", "x" * 200))

    def _delete_options(self) -> dict[str, Any]:
        random = self.random
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        for name in ("gracePeriodSeconds", "propagationPolicy", "dryRun", "orphanDependents", "preconditions"):
            if random.random() < 0.3:
                value: Any = self._value(name)
                if name == "gracePeriodSeconds":
                    value = random.choice((0, 1, 30, *NUMBERS))
                elif name == "dryRun":
                    value = [value]
                elif name == "orphanDependents":
                    value = random.random() < 0.5
                elif name == "preconditions":
                    value = {"uid": random.choice(STRINGS), "resourceVersion": random.choice(("1", *STRINGS))}
                options[name] = value
        return options


def mark_of(number: int) -> str:
    """What a request writes into the annotation: its number, twice, so that a mutation makes no other's of it."""
    return f"{number}-{number}"


def number_of(mark: str) -> int | None:
    """Of the request that wrote a mark; None when that cannot be told."""
    first, _, second = mark.partition("-")
    return int(first) if first == second and first.isdecimal() else None


def _decodes(content: dict[str, Any], info: ResourceInfo) -> bool:
    try:
        codec.from_dict(content, info.message)
    except (codec.DecodeError, ValueError, TypeError):
        return False
    return True
