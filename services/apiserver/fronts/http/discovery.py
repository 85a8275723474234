"""Discovery: which groups, versions and resources are served; plain, and aggregated as v2 and v2beta1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from services.apiserver.fronts.http.content import Answer, clauses
from services.apiserver.fronts.kinds import STREAMS, SUBRESOURCE_KINDS, subresource_verbs
from services.apiserver.registry.registry import Registry
from tillerman.api.scheme import ResourceInfo
from tillerman.api.status import no_such_path

AGGREGATED = "apidiscovery.k8s.io"
# Groups are listed with kubectl's usual ones first, so that short names are found there.
FIRST = ("", "apps", "batch", "autoscaling", "networking.k8s.io", "policy", "rbac.authorization.k8s.io")


@dataclass(frozen=True, slots=True)
class Listed:
    """A resource or subresource as discovery names it."""

    name: str
    singular: str
    namespaced: bool
    kind: str
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    group_version: str = ""


class Discovery:
    """Answers are made anew for each request: custom resources come and go."""

    def __init__(self, registry: Registry, *, extra: Iterable[tuple[str, Listed]] = ()) -> None:
        self._registry = registry
        self._extra = tuple(extra)

    def _served(self, info: ResourceInfo) -> bool:
        catalog = self._registry.catalog
        return catalog.stores(info) or self._registry.is_virtual(info.api_version, info.resource)

    def groups(self) -> dict[str, list[tuple[ResourceInfo | None, Listed]]]:
        """By group and version ("v1", "apps/v1"), in the order that discovery lists them."""
        found: dict[str, list[tuple[ResourceInfo | None, Listed]]] = {}
        infos = [info for info in self._registry.catalog.infos() if self._served(info)]
        infos += self._registry.catalog.customs.listed()
        rank = {group: position for position, group in enumerate(FIRST)}
        infos.sort(key=lambda info: (rank.get(info.group, len(FIRST)), info.group))
        for info in infos:
            rows = found.setdefault(info.api_version, [])
            short, categories = info.short_names, info.categories
            rows.append(
                (info, Listed(info.resource, info.singular, info.namespaced, info.kind, info.verbs, short, categories))
            )
            rows.extend((None, sub) for sub in subresources(info))
        for api_version, listed in self._extra:
            found.setdefault(api_version, []).append((None, listed))
        return found

    # -- plain -----------------------------------------------------------------------------------------------------

    def api_versions(self, host: str) -> Answer:
        address = {"clientCIDR": "0.0.0.0/0", "serverAddress": host}
        return _answer({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]})

    def group_list(self) -> Answer:
        groups = [self._group(name, versions) for name, versions in self._versions().items() if name]
        return _answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    def group(self, name: str) -> Answer:
        versions = self._versions().get(name)
        if not versions or not name:
            raise no_such_path()
        return _answer({"kind": "APIGroup", "apiVersion": "v1", **self._group(name, versions)})

    def resource_list(self, api_version: str) -> Answer:
        rows = self.groups().get(api_version)
        if rows is None:
            raise no_such_path()
        resources = [_plain(listed) for _, listed in rows]
        content = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}
        return _answer(content)

    def _versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for api_version in self.groups():
            group, _, version = api_version.rpartition("/")
            found.setdefault(group, []).append(version)
        return found

    @staticmethod
    def _group(name: str, versions: list[str]) -> dict[str, Any]:
        named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        return {"name": name, "versions": named, "preferredVersion": named[0]}

    # -- aggregated ------------------------------------------------------------------------------------------------

    def aggregated(self, accept: str, *, core: bool) -> Answer | None:
        """/api (``core``) or /apis as APIGroupDiscoveryList; None when the caller prefers the plain form."""
        for clause in clauses(accept):
            if not clause.shape:
                return None
            if clause.shape == "APIGroupDiscoveryList" and clause.version in ("v2", "v2beta1"):
                return self._discovery_list(clause.version, core=core)
        return None

    def _discovery_list(self, version: str, *, core: bool) -> Answer:
        groups: dict[str, list[dict[str, Any]]] = {}
        for api_version, rows in self.groups().items():
            group, _, name = api_version.rpartition("/")
            if core == (group == ""):
                content = {"version": name, "resources": _nested(api_version, rows), "freshness": "Current"}
                groups.setdefault(group, []).append(content)
        items = [
            {"metadata": {"name": group} if group else {}, "versions": versions} for group, versions in groups.items()
        ]
        whole = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"{AGGREGATED}/{version}",
            "metadata": {},
            "items": items,
        }
        media = f"application/json;g={AGGREGATED};v={version};as=APIGroupDiscoveryList"
        return Answer(orjson.dumps(whole), media_type=media)


def subresources(info: ResourceInfo) -> Iterable[Listed]:
    for name in info.subresources:
        own = f"{info.kind}ProxyOptions" if name == "proxy" else STREAMS.get(name, info.kind)
        api_version, kind = SUBRESOURCE_KINDS.get(name, ("", own))
        full, verbs = f"{info.resource}/{name}", subresource_verbs(name)
        yield Listed(full, "", info.namespaced, kind, verbs, group_version=api_version)


def _answer(content: dict[str, Any]) -> Answer:
    return Answer(orjson.dumps(content))


def _plain(listed: Listed) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": listed.name,
        "singularName": listed.singular,
        "namespaced": listed.namespaced,
        "kind": listed.kind,
        "verbs": sorted(listed.verbs),
    }
    if listed.group_version:
        content["group"], _, content["version"] = listed.group_version.rpartition("/")
    if listed.short_names:
        content["shortNames"] = listed.short_names
    if listed.categories:
        content["categories"] = listed.categories
    return content


def _nested(api_version: str, rows: list[tuple[ResourceInfo | None, Listed]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _, listed in rows:
        group, _, version = (listed.group_version or api_version).rpartition("/")
        content: dict[str, Any] = {"responseKind": {"group": group, "version": version, "kind": listed.kind}}
        if "/" in listed.name:
            content |= {"subresource": listed.name.partition("/")[2], "verbs": sorted(listed.verbs)}
            found[-1].setdefault("subresources", []).append(content)
            continue
        content |= {
            "resource": listed.name,
            "scope": "Namespaced" if listed.namespaced else "Cluster",
            "singularResource": listed.singular,
            "verbs": sorted(listed.verbs),
        }
        if listed.short_names:
            content["shortNames"] = listed.short_names
        if listed.categories:
            content["categories"] = listed.categories
        found.append(content)
    return found
