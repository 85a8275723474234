"""A write path in memory, around the strategies and patches, to replay what a real kube-apiserver recorded.

Only what those two need: no admission but the few effects that show in the recordings, no storage but a dict.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any
from urllib.parse import parse_qsl

from golden.compare import differences

from services.apiserver import patch as patches
from services.apiserver import strategy
from tillerman.api import codec, status
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.api.status import StatusError

TIME = "2026-01-01T00:00:00Z"


class Server:
    """Objects by their URL path."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self._revisions = itertools.count(100)

    def locate(self, path: str) -> tuple[ResourceInfo, str, str, str]:
        """(resource, namespace, name, subresource) of a URL path."""
        parts = path.strip("/").split("/")
        version, rest = (parts[1], parts[2:]) if parts[0] == "api" else (f"{parts[1]}/{parts[2]}", parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource, name, subresource = (*rest, "", "")[:3]
        return SCHEME.by_resource(version, resource), namespace, name, subresource

    def create(
        self, path: str, body: dict[str, Any], query: dict[str, str], manager: str, *, track: bool = True
    ) -> dict[str, Any]:
        info, namespace, _, _ = self.locate(path)
        obj: Any = codec.from_dict(body, info.message)
        strategy.default(obj)
        if namespace:
            obj.metadata.namespace = namespace
        if track:
            obj = self._tracked(info, obj, None, manager)
        if not obj.metadata.name and obj.metadata.generateName:
            obj.metadata.name = obj.metadata.generateName + "abcde"
        if obj.metadata.uid:
            raise status.conflict(info.resource, obj.metadata.name, info.group)
        obj.metadata.uid = f"uid-{next(self._revisions)}"
        obj.metadata.creationTimestamp.seconds = 1000
        _admit(obj, new=True)
        strategy.prepare_for_create(obj)
        self._refuse(info, obj.metadata.name, strategy.validate_create(obj))
        return self._store(f"{path}/{obj.metadata.name}", info, obj, query)

    def update(
        self,
        path: str,
        body: dict[str, Any],
        subresource: str,
        query: dict[str, str],
        manager: str,
        *,
        track: bool = True,
    ) -> dict[str, Any]:
        info, namespace, name, _ = self.locate(path)
        old = self.objects[path]
        meta = body.get("metadata") or {}
        if meta.get("name", name) != name or meta.get("namespace", namespace) != namespace:
            raise status.bad_request("the name of the object does not match the name on the URL")
        try:
            new: Any = codec.from_dict(body, info.message)
        except codec.DecodeError as error:
            raise status.invalid("", "", [status.invalid_value("patch", "", str(error))]) from error
        if namespace:
            new.metadata.namespace = namespace
        if new.metadata.resourceVersion not in ("", old.metadata.resourceVersion):
            raise status.conflict(info.resource, name, info.group)
        if strategy.allows_unconditional_update(new):
            new.metadata.resourceVersion = old.metadata.resourceVersion
        strategy.default(new)
        if track:
            new = self._tracked(info, new, old, manager)
        strategy.prepare_for_update(new, old, subresource)
        _admit(new, new=False)
        self._refuse(info, name, strategy.validate_update(new, old, subresource))
        if _timeless(codec.to_dict(new)) == _timeless(codec.to_dict(old)):
            return codec.to_dict(old)
        return self._store(path, info, new, query)

    def patch(
        self, path: str, media_type: str, body: Any, query: dict[str, str], agent: str
    ) -> tuple[int, dict[str, Any]]:
        info, _, name, subresource = self.locate(path)
        path = path.removesuffix(f"/{subresource}") if subresource else path
        manager = query.get("fieldManager", agent)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        old = self.objects.get(path)
        if media_type == patches.APPLY_PATCH:
            return self._apply(path, patches.parse_applied(raw)[0], old, subresource, query, manager)
        if "force" in query:
            raise status.invalid("PatchOptions", "", [status.forbidden_field("force", "")])
        if query.get("dryRun", "All") != "All":
            raise status.invalid("PatchOptions", "", [status.not_supported("dryRun", "", ["All"])])
        if old is None:
            raise status.not_found(info.resource, name, info.group)
        patched = patches.apply_patch(media_type, codec.to_dict(old), raw, info.message.DESCRIPTOR)
        return 200, self.update(path, patched, subresource, query, manager)

    def _apply(
        self, path: str, applied: dict[str, Any], old: Any, subresource: str, query: dict[str, str], manager: str
    ) -> tuple[int, dict[str, Any]]:
        info, _, name, _ = self.locate(path)
        if old is None and subresource:
            raise status.not_found(info.resource, name, info.group)
        live = codec.to_dict(old) if old is not None else None
        version = (applied.get("metadata") or {}).get("resourceVersion")
        if version and live is not None and version != live["metadata"]["resourceVersion"]:
            raise status.conflict(info.resource, name, info.group)
        merged = patches.apply(
            live,
            applied,
            api_version=info.api_version,
            kind=info.kind,
            manager=manager,
            time=TIME,
            force=query.get("force") == "true",
        )
        if live is None:
            return 201, self.create(path.rsplit("/", 1)[0], merged, query, manager, track=False)
        return 200, self.update(path, merged, subresource, query, manager, track=False)

    def _tracked(self, info: ResourceInfo, new: Any, old: Any, manager: str) -> Any:
        content = codec.to_dict(new)
        content["metadata"]["managedFields"] = patches.track_update(
            codec.to_dict(old) if old is not None else None,
            content,
            manager=manager,
            time=TIME,
            api_version=info.api_version,
            kind=info.kind,
        )
        return codec.from_dict(content, info.message)

    def _store(self, path: str, info: ResourceInfo, obj: Any, query: dict[str, str]) -> dict[str, Any]:
        obj.metadata.resourceVersion = str(next(self._revisions))
        if "dryRun" not in query:
            self.objects[path] = obj
        return codec.to_dict(obj)

    def _refuse(self, info: ResourceInfo, name: str, causes: list[Any]) -> None:
        if causes:
            raise status.invalid(info.group_kind, name, causes)

    def resolve(self, value: Any) -> Any:
        """The value with {{uid:path}} and {{rv:path}} filled in."""
        if isinstance(value, dict):
            return {k: self.resolve(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.resolve(v) for v in value]
        if not isinstance(value, str):
            return value

        def seen(match: re.Match[str]) -> str:
            obj = self.objects.get(match[2])
            return "" if obj is None else obj.metadata.uid if match[1] == "uid" else obj.metadata.resourceVersion

        return re.sub(r"\{\{(uid|rv):([^}]+)\}\}", seen, value)


def _timeless(content: dict[str, Any]) -> dict[str, Any]:
    entries = content["metadata"].get("managedFields") or []
    kept = {k: v for k, v in content["metadata"].items() if k not in ("managedFields", "resourceVersion")}
    return {**content, "metadata": {**kept, "managers": [{**e, "time": ""} for e in entries]}}


def _admit(obj: Any, *, new: bool) -> None:
    """What the recording server's admission plugins and allocators left in the answers."""
    kind = obj.DESCRIPTOR.name
    if kind == "Pod" and new:
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            obj.spec.tolerations.add(key=key, operator="Exists", effect="NoExecute", tolerationSeconds=300)
        obj.spec.priority, obj.spec.preemptionPolicy = 0, "PreemptLowerPriority"
    if kind == "Node" and new:
        obj.spec.taints.add(key="node.kubernetes.io/not-ready", effect="NoSchedule")
    if kind == "Service" and obj.spec.type != "ExternalName":
        if not obj.spec.clusterIP:
            obj.spec.clusterIP = "10.96.1.2"
        if not obj.spec.clusterIPs:
            obj.spec.clusterIPs.append(obj.spec.clusterIP)


def run(step: Any) -> tuple[int, dict[str, Any]]:
    """(code, answer) of a request, refused or not."""
    try:
        result = step()
    except StatusError as error:
        return error.code, codec.to_dict(error.status)
    return result if isinstance(result, tuple) else (201, result)


def judge(recorded_code: int, recorded: Any, code: int, got: dict[str, Any]) -> list[str]:
    """How an answer differs. Where 1.20 failed with 500, any refusal that is the client's fault is right."""
    if recorded_code == 500 and 400 <= code < 500:
        return []
    if recorded_code != code:
        return [f"code {code} ({got.get('message')}), recorded {recorded_code}"]
    if code < 400:
        return differences(recorded, got) if recorded else []
    causes, expected = causes_of(got), causes_of(recorded)
    return [] if causes == expected else [f"causes {sorted(causes)}, recorded {sorted(expected)}"]


def causes_of(refusal: dict[str, Any]) -> set[tuple[str, str]]:
    causes = (refusal.get("details") or {}).get("causes") or []
    return {(cause.get("field", ""), cause["reason"]) for cause in causes}


def query_of(text: str | None) -> dict[str, str]:
    return dict(parse_qsl(text or "", keep_blank_values=True))
