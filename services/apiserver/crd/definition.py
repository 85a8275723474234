"""A CustomResourceDefinition as the server works with it: its versions, names and schemas as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from services.apiserver.crd.columns import Columns, columns_of
from services.apiserver.crd.schema import Schema
from services.apiserver.crd.versions import preferred_first, rank
from tillerman.api import codec
from tillerman.api.meta import get_condition
from tillerman.api.scheme import ALL_VERBS, ResourceInfo

ANYTHING: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# What discovery still lists while the instances are being removed.
TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
ESTABLISHED, NAMES_ACCEPTED, TERMINATING = "Established", "NamesAccepted", "Terminating"


@dataclass(frozen=True, eq=False)
class CustomInfo(ResourceInfo):
    """``declared_list_kind``: names.listKind. ``printed``: the columns after the name. ``schema``: of the objects."""

    declared_list_kind: str = ""
    printed: Columns = ()
    schema: Schema = field(default_factory=dict)

    @property
    def list_kind(self) -> str:
        return self.declared_list_kind

    @cached_property
    def list_message(self) -> None:
        """Custom resources have no message."""
        return None


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of spec.versions. ``scale``: None without the subresource. ``warning``: "" unless deprecated."""

    name: str
    served: bool
    storage: bool
    schema: Schema
    status: bool
    scale: Mapping[str, str] | None
    columns: Columns
    selectable: tuple[str, ...]
    warning: str


@dataclass(frozen=True, slots=True)
class Definition:
    """``spec``: the JSON form of the definition's spec; ``names``: its names as accepted; ``webhook``: the
    WebhookConversion that its versions need, None where relabelling will do.
    """

    name: str
    uid: str
    generation: int
    group: str
    namespaced: bool
    spec: Mapping[str, Any]
    names: Mapping[str, Any]
    versions: tuple[Version, ...]
    established: bool
    accepted: bool
    terminating: bool
    webhook: Any

    @classmethod
    def of(cls, crd: Any) -> Definition:
        spec = codec.to_dict(crd.spec)
        accepted = codec.to_dict(crd.status.acceptedNames)
        names = {**spec["names"], **{name: value for name, value in accepted.items() if value}}
        # A short name that was not accepted, or was given up, is not served.
        for optional in ("shortNames", "categories"):
            if optional not in accepted:
                names.pop(optional, None)
        return cls(
            name=crd.metadata.name,
            uid=crd.metadata.uid,
            generation=crd.metadata.generation,
            group=crd.spec.group,
            namespaced=crd.spec.scope == "Namespaced",
            spec=spec,
            names=names,
            versions=tuple(_version(entry, spec) for entry in spec["versions"]),
            established=is_true(crd, ESTABLISHED),
            accepted=is_true(crd, NAMES_ACCEPTED),
            terminating=is_true(crd, TERMINATING) or crd.metadata.HasField("deletionTimestamp"),
            webhook=crd.spec.conversion.webhook if crd.spec.conversion.strategy == "Webhook" else None,
        )

    @property
    def plural(self) -> str:
        return str(self.spec["names"]["plural"])

    @property
    def prefix(self) -> str:
        """Where the objects are stored, whatever their version."""
        return f"/registry/{self.group}/{self.plural}/"

    @property
    def served(self) -> list[Version]:
        """The served versions, the preferred one first; none before the names are accepted."""
        if not (self.established or self.accepted):
            return []
        known = {version.name: version for version in self.versions if version.served}
        return [known[name] for name in preferred_first(list(known))]

    @property
    def storage_version(self) -> Version:
        return next(version for version in self.versions if version.storage)

    @property
    def listed_verbs(self) -> tuple[str, ...]:
        return TERMINATING_VERBS if self.terminating else ALL_VERBS

    def api_version(self, version: Version) -> str:
        return f"{self.group}/{version.name}"

    def version_of(self, api_version: str) -> Version | None:
        """The version that an object says it has; None for one that the definition no longer lists."""
        return next((v for v in self.versions if self.api_version(v) == api_version), None)

    def info(self, version: Version) -> CustomInfo:
        names = self.names
        subresources = [name for name, on in (("scale", version.scale is not None), ("status", version.status)) if on]
        return CustomInfo(
            group=self.group,
            version=version.name,
            api_version=self.api_version(version),
            resource=self.plural,
            singular=names.get("singular", ""),
            short_names=tuple(names.get("shortNames", ())),
            kind=names["kind"],
            namespaced=self.namespaced,
            verbs=ALL_VERBS,
            subresources=tuple(subresources),
            categories=tuple(names.get("categories", ())),
            etcd_prefix=self.prefix,
            columns=(),
            also_served=(),
            same_storage_as=None,
            declared_list_kind=names.get("listKind") or names["kind"] + "List",
            printed=version.columns,
            schema=version.schema,
        )


def is_true(crd: Any, condition: str) -> bool:
    found = get_condition(crd.status.conditions, condition)
    return found is not None and found.status == "True"


def _version(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> Version:
    subresources = entry.get("subresources") or {}
    return Version(
        name=entry["name"],
        served=entry["served"],
        storage=entry["storage"],
        schema=(entry.get("schema") or {}).get("openAPIV3Schema") or ANYTHING,
        status="status" in subresources,
        scale=subresources.get("scale"),
        columns=columns_of(entry.get("additionalPrinterColumns") or ()),
        selectable=tuple(selected["jsonPath"] for selected in entry.get("selectableFields") or ()),
        warning=_warning(entry, spec) if entry.get("deprecated") else "",
    )


def _warning(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """What callers of a deprecated version are told."""
    given: str = entry.get("deprecationWarning") or ""
    if given:
        return given
    group, kind = spec["group"], spec["names"]["kind"]
    text = f"{group}/{entry['name']} {kind} is deprecated"
    newer = [
        other["name"]
        for other in spec["versions"]
        if other["served"] and not other.get("deprecated") and rank(other["name"]) > rank(entry["name"])
    ]
    return f"{text}; use {group}/{preferred_first(newer)[0]} {kind}" if newer else text
