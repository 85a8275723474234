"""The scheme: every kind and resource that is served, with its names, columns, storage prefix and message type.

The table is read once from resources.json. Message modules are imported when a message type is asked for, so a program
that only touches core/v1 never loads the other groups.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
TYPE_URL_PREFIX: Final = "type.googleapis.com/"

# api version -> (module under tillerman.pb.k8s, proto package)
PACKAGES: Final[dict[str, tuple[str, str]]] = {
    "v1": ("core_v1", "k8s.io.api.core.v1"),
    "apps/v1": ("apps_v1", "k8s.io.api.apps.v1"),
    "batch/v1": ("batch_v1", "k8s.io.api.batch.v1"),
    "autoscaling/v1": ("autoscaling_v1", "k8s.io.api.autoscaling.v1"),
    "autoscaling/v2": ("autoscaling_v2", "k8s.io.api.autoscaling.v2"),
    "networking.k8s.io/v1": ("networking_v1", "k8s.io.api.networking.v1"),
    "discovery.k8s.io/v1": ("discovery_v1", "k8s.io.api.discovery.v1"),
    "policy/v1": ("policy_v1", "k8s.io.api.policy.v1"),
    "rbac.authorization.k8s.io/v1": ("rbac_v1", "k8s.io.api.rbac.v1"),
    "storage.k8s.io/v1": ("storage_v1", "k8s.io.api.storage.v1"),
    "scheduling.k8s.io/v1": ("scheduling_v1", "k8s.io.api.scheduling.v1"),
    "coordination.k8s.io/v1": ("coordination_v1", "k8s.io.api.coordination.v1"),
    "events.k8s.io/v1": ("events_v1", "k8s.io.api.events.v1"),
    "node.k8s.io/v1": ("node_v1", "k8s.io.api.node.v1"),
    "authentication.k8s.io/v1": ("authentication_v1", "k8s.io.api.authentication.v1"),
    "authorization.k8s.io/v1": ("authorization_v1", "k8s.io.api.authorization.v1"),
    "certificates.k8s.io/v1": ("certificates_v1", "k8s.io.api.certificates.v1"),
    "admission.k8s.io/v1": ("admission_v1", "k8s.io.api.admission.v1"),
    "admissionregistration.k8s.io/v1": ("admissionregistration_v1", "k8s.io.api.admissionregistration.v1"),
    "apiextensions.k8s.io/v1": ("apiextensions_v1", "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"),
    "apiregistration.k8s.io/v1": ("apiregistration_v1", "k8s.io.kube_aggregator.pkg.apis.apiregistration.v1"),
    "flowcontrol.apiserver.k8s.io/v1": ("flowcontrol_v1", "k8s.io.api.flowcontrol.v1"),
    "metrics.k8s.io/v1beta1": ("metrics_v1beta1", "k8s.io.metrics.pkg.apis.metrics.v1beta1"),
    "meta.k8s.io/v1": ("meta_v1", "k8s.io.apimachinery.pkg.apis.meta.v1"),
}

# Kinds with an envelope that no resource of the table has: subresources, options, reviews, generic lists.
_OTHER_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "v1": (
        "NodeProxyOptions",
        "PodAttachOptions",
        "PodExecOptions",
        "PodLogOptions",
        "PodPortForwardOptions",
        "PodProxyOptions",
        "PodStatusResult",
        "RangeAllocation",
        "SerializedReference",
        "ServiceProxyOptions",
    ),
    "autoscaling/v1": ("Scale",),
    "policy/v1": ("Eviction",),
    "authentication.k8s.io/v1": ("TokenRequest",),
    "admission.k8s.io/v1": ("AdmissionReview",),
    "apiextensions.k8s.io/v1": ("ConversionReview",),
    "metrics.k8s.io/v1beta1": ("PodMetrics", "PodMetricsList", "NodeMetrics", "NodeMetricsList"),
    "meta.k8s.io/v1": ("PartialObjectMetadata", "PartialObjectMetadataList"),
}
# Kinds of meta/v1 that appear as "v1".
_META_AS_CORE: Final = (
    "Status",
    "List",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
    "ListOptions",
    "GetOptions",
)


@dataclass(frozen=True)
class Column:
    """A column of a printed table. `type` is string, integer, boolean or date; wide ones show with -o wide."""

    name: str
    type: str
    wide: bool


@dataclass(frozen=True, eq=False)
class ResourceInfo:
    """One resource of one API version."""

    group: str
    version: str
    api_version: str
    resource: str
    singular: str
    short_names: tuple[str, ...]
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    subresources: tuple[str, ...]
    categories: tuple[str, ...]
    etcd_prefix: str | None
    columns: tuple[Column, ...]
    also_served: tuple[str, ...]
    same_storage_as: str | None

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: as error messages and `-o name` write it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @property
    def group_kind(self) -> str:
        """`Pod`, `Deployment.apps`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @cached_property
    def message_name(self) -> str:
        return f"{PACKAGES[self.api_version][1]}.{self.kind}"

    @cached_property
    def type_url(self) -> str:
        return TYPE_URL_PREFIX + self.message_name

    @cached_property
    def message(self) -> type[Message]:
        return _message_type(self.api_version, self.kind)

    @cached_property
    def list_message(self) -> type[Message] | None:
        if "list" not in self.verbs:
            return None
        return _message_type(self.api_version, self.list_kind)


def _message_type(api_version: str, kind: str) -> type[Message]:
    module = import_module(f"tillerman.pb.k8s.{PACKAGES[api_version][0]}_pb2")
    found: type[Message] = getattr(module, kind)
    return found


def _read_table(rows: Iterable[dict[str, Any]]) -> list[ResourceInfo]:
    table = []
    for row in rows:
        group, _, version = row["apiVersion"].rpartition("/")
        table.append(
            ResourceInfo(
                group=group,
                version=version,
                api_version=row["apiVersion"],
                resource=row["resource"],
                singular=row["singular"],
                short_names=tuple(row.get("shortNames", ())),
                kind=row["kind"],
                namespaced=row.get("namespaced", True),
                verbs=tuple(row.get("verbs", ALL_VERBS)),
                subresources=tuple(row.get("subresources", ())),
                categories=tuple(row.get("categories", ())),
                etcd_prefix=row.get("etcdPrefix"),
                columns=tuple(Column(name, kind, bool(wide)) for name, kind, wide in row.get("columns", ())),
                also_served=tuple(row.get("alsoServed", ())),
                same_storage_as=row.get("sameStorageAs"),
            )
        )
    return table


class Scheme:
    """Looks resources and kinds up. Every lookup raises LookupError when there is nothing of that name."""

    def __init__(self, table: list[ResourceInfo]) -> None:
        from dataclasses import replace

        self._primary = tuple(table)
        older = []
        for info in table:
            for api_version in info.also_served:
                group, _, version = api_version.rpartition("/")
                older.append(replace(info, api_version=api_version, group=group, version=version, also_served=()))
        self._all = (*table, *older)
        self._by_resource = {(i.api_version, i.resource): i for i in self._all}
        self._by_kind = {(i.api_version, i.kind): i for i in self._all}
        self._by_name = {i.message_name: i for i in self._all}
        # full message name -> (api version, kind), for everything that has an envelope.
        self._kinds: dict[str, tuple[str, str]] = {}
        for info in self._all:
            self._kinds[info.message_name] = (info.api_version, info.kind)
            if "list" in info.verbs:
                self._kinds[info.message_name + "List"] = (info.api_version, info.kind + "List")
        for api_version, names in _OTHER_KINDS.items():
            for name in names:
                self._kinds[f"{PACKAGES[api_version][1]}.{name}"] = (api_version, name)
        for name in _META_AS_CORE:
            self._kinds[f"{PACKAGES['meta.k8s.io/v1'][1]}.{name}"] = ("v1", name)

    def resources(self, *, also_served: bool = False) -> tuple[ResourceInfo, ...]:
        """All resources, each in its preferred version; with `also_served` the older versions too."""
        return self._all if also_served else self._primary

    def by_resource(self, api_version: str, resource: str) -> ResourceInfo:
        try:
            return self._by_resource[api_version, resource]
        except KeyError:
            raise LookupError(f'no resource "{resource}" in version "{api_version}"') from None

    def by_kind(self, api_version: str, kind: str) -> ResourceInfo:
        try:
            return self._by_kind[api_version, kind]
        except KeyError:
            raise LookupError(f'no kind "{kind}" is registered for version "{api_version}"') from None

    def by_message(self, message: Message | type[Message]) -> ResourceInfo:
        try:
            return self._by_name[message.DESCRIPTOR.full_name]
        except KeyError:
            raise LookupError(f"{message.DESCRIPTOR.full_name} is not a resource") from None

    def by_type_url(self, type_url: str) -> ResourceInfo:
        try:
            return self._by_name[type_url.removeprefix(TYPE_URL_PREFIX)]
        except KeyError:
            raise LookupError(f"{type_url} is not a resource") from None

    def kind_of(self, message: Message | type[Message]) -> tuple[str, str]:
        """(apiVersion, kind) of a message that has an envelope."""
        return self.kind_of_name(message.DESCRIPTOR.full_name)

    def kind_of_name(self, full_name: str) -> tuple[str, str]:
        try:
            return self._kinds[full_name]
        except KeyError:
            raise LookupError(f"{full_name} is not a kind") from None

    def message_type(self, api_version: str, kind: str) -> type[Message]:
        """The message type of any kind with an envelope, lists and options included."""
        if info := self._by_kind.get((api_version, kind)):
            return info.message
        holder = "meta.k8s.io/v1" if api_version == "v1" and kind in _META_AS_CORE else api_version
        package = PACKAGES.get(holder)
        if package is None or f"{package[1]}.{kind}" not in self._kinds:
            raise LookupError(f'no kind "{kind}" is registered for version "{api_version}"')
        return _message_type(holder, kind)

    def has_kind(self, api_version: str, kind: str) -> bool:
        try:
            self.message_type(api_version, kind)
        except LookupError:
            return False
        return True

    def message_by_name(self, full_name: str) -> type[Message]:
        """The message type of a full proto name that has an envelope ("k8s.io.api.core.v1.Pod")."""
        self.kind_of_name(full_name)
        package, _, name = full_name.rpartition(".")
        module = _MODULES[package]
        found: type[Message] = getattr(import_module(f"tillerman.pb.k8s.{module}_pb2"), name)
        return found

    def lookup(self, name: str) -> ResourceInfo:
        """Finds a resource as people write it: `po`, `pods`, `Pod`, `deployments.apps`, `deployments.v1.apps`.

        The first resource of the table wins where names collide (v1 events before events.k8s.io).
        """
        word = name.lower()
        found = self._spellings.get(word)
        if found is not None:
            return found
        head, _, rest = word.partition(".")
        for info in self._all:
            if head in (info.resource, info.singular, *info.short_names) and rest in (
                info.group,
                f"{info.version}.{info.group}" if info.group else info.version,
            ):
                return info
        raise LookupError(f'the server doesn\'t have a resource type "{name}"')

    @cached_property
    def _spellings(self) -> dict[str, ResourceInfo]:
        spellings: dict[str, ResourceInfo] = {}
        for info in self._primary:
            for word in (info.resource, info.singular, info.kind.lower(), *info.short_names):
                spellings.setdefault(word, info)
        return spellings

    def category(self, name: str) -> tuple[ResourceInfo, ...]:
        """The resources of a category such as `all`; empty when there is none."""
        return tuple(info for info in self._primary if name in info.categories)


_MODULES: Final = {package: module for module, package in PACKAGES.values()}
SCHEME: Final = Scheme(_read_table(json.loads(Path(__file__).with_name("resources.json").read_bytes())))
