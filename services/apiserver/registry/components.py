"""ComponentStatuses: how the scheduler, the controller manager and etcd are, found out when somebody asks.

Components run anywhere, on ports of their own, so it is the Lease that a working one renews through this server that
tells of it: that says more than an address which answers. etcd's members are asked themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from services.apiserver.cache.entry import Entry, ProtoFramer
from services.apiserver.cache.fields import extractor, matcher, resolve
from services.apiserver.registry.reading import ListPage, Selection, parse_selectors
from services.apiserver.registry.resource import Resource
from services.apiserver.storage.errors import StorageError
from services.apiserver.storage.etcd import EtcdClient
from tillerman.api import times
from tillerman.api.scheme import SCHEME
from tillerman.api.status import not_found
from tillerman.pb.etcd import rpc_pb2
from tillerman.pb.k8s import coordination_v1_pb2, core_v1_pb2

KEY = ("v1", "componentstatuses")
LEASES = {"scheduler": "kube-scheduler", "controller-manager": "kube-controller-manager"}
NAMESPACE = "kube-system"
# Seconds that a member of etcd has to answer.
ETCD_SECONDS = 5.0


class Health(NamedTuple):
    """``status`` of the condition Healthy, and why it is not True."""

    status: str
    error: str = ""


HEALTHY = Health("True")


class ComponentStatuses:
    """``leases``: the resource; ``now``: seconds since the epoch."""

    warning = "v1 ComponentStatus is deprecated in v1.19+"

    def __init__(self, leases: Resource, etcd: EtcdClient, now: Callable[[], float]) -> None:
        info = SCHEME.by_resource(*KEY)
        self._info = info
        self._framer = ProtoFramer(info.message, info.type_url, info.api_version, info.kind)
        self._leases = leases
        self._etcd = etcd
        self._now = now
        self._checks: dict[str, Callable[[], Awaitable[Health]]] = {
            **{name: partial(self._led, lease) for name, lease in LEASES.items()},
            **{f"etcd-{index}": partial(self._member, address) for index, address in enumerate(etcd.addresses)},
        }

    async def get(self, name: str) -> Entry:
        """Raises NotFound."""
        if name not in self._checks:
            raise not_found(self._info.resource, name)
        return await self._status(name)

    async def list(self, selection: Selection) -> ListPage:
        """Raises BadRequest."""
        labels, fields = parse_selectors(selection)
        fields = resolve(fields, *KEY)
        chosen = matcher(fields, extractor(*KEY))
        entries = await asyncio.gather(*(self._status(name) for name in self._checks))
        # They have no labels and are no objects of etcd's, so there is no revision to name.
        return ListPage(0, [entry for entry in entries if labels.matches({}) and chosen(entry)])

    async def _status(self, name: str) -> Entry:
        health = await self._checks[name]()
        found = core_v1_pb2.ComponentStatus()
        found.metadata.name = name
        condition = found.conditions.add(type="Healthy", status=health.status)
        if health.error:
            condition.error = health.error
        else:
            condition.message = "ok"
        return Entry(self._framer, name, found.SerializeToString(), 0)

    async def _led(self, name: str) -> Health:
        entry = self._leases.cache.entries.get(self._leases.key(NAMESPACE, name))
        return lease_health(name, None if entry is None else entry.message(), self._now())

    async def _member(self, address: str) -> Health:
        try:
            status = await self._etcd.call_member(address, "status", rpc_pb2.StatusRequest(), timeout=ETCD_SECONDS)
        except StorageError as error:
            return Health("False", str(error))
        return Health("False", "; ".join(status.errors)) if status.errors else HEALTHY


def lease_health(name: str, lease: coordination_v1_pb2.Lease | None, now: float) -> Health:
    """Who works without leader election has no Lease, and nothing is known of it."""
    if lease is None:
        return Health("Unknown", f"there is no Lease {NAMESPACE}/{name}")
    if not lease.spec.holderIdentity:
        return Health("False", f"nobody holds the Lease {NAMESPACE}/{name}")
    if times.to_seconds(lease.spec.renewTime) + lease.spec.leaseDurationSeconds < now:
        holder, renewed = lease.spec.holderIdentity, times.rfc3339(lease.spec.renewTime)
        return Health("False", f"{holder} has not renewed the Lease {NAMESPACE}/{name} since {renewed}")
    return HEALTHY
