"""What is said of a component by the Lease that it renews, and of etcd by what its members answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.apiserver.cache.hub import CacheHub
from services.apiserver.registry.components import ComponentStatuses, lease_health
from services.apiserver.registry.reading import Selection
from services.apiserver.registry.resource import Resource
from services.apiserver.storage.errors import StorageUnavailable
from tillerman.api import printers, times
from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError
from tillerman.pb.k8s import coordination_v1_pb2 as coordination

NOW = 1_000_000.0


def lease(holder: str, renewed: float) -> coordination.Lease:
    found = coordination.Lease()
    found.spec.holderIdentity = holder
    found.spec.leaseDurationSeconds = 15
    found.spec.renewTime.CopyFrom(times.micro_from_seconds(renewed))
    return found


class TwoMembers:
    """An etcd of two members: one is well, the other is what the test says."""

    addresses = ("10.0.0.1:2379", "10.0.0.2:2379")

    def __init__(self, second: Any) -> None:
        self._second = second

    async def call_member(self, address: str, operation: str, request: Any, *, timeout: float) -> Any:
        assert operation == "status"
        if address == self.addresses[0]:
            return SimpleNamespace(errors=[])
        if isinstance(self._second, Exception):
            raise self._second
        return SimpleNamespace(errors=self._second)


def statuses(second: Any = ()) -> ComponentStatuses:
    leases = Resource(SCHEME.by_resource("coordination.k8s.io/v1", "leases"), CacheHub())
    key = leases.key("kube-system", "kube-scheduler")
    leases.cache.entries[key] = leases.entry(key, lease("a", NOW).SerializeToString(), 7)
    etcd: Any = TwoMembers(second)
    return ComponentStatuses(leases, etcd, lambda: NOW)


@pytest.mark.parametrize(
    ("found", "status", "error"),
    [
        (lease("a", NOW - 14), "True", ""),
        (lease("a", NOW - 16), "False", "a has not renewed the Lease kube-system/l since 1970-01-12T13:46:24.000000Z"),
        (lease("", NOW), "False", "nobody holds the Lease kube-system/l"),
        (None, "Unknown", "there is no Lease kube-system/l"),
    ],
)
def test_leases(found: coordination.Lease | None, status: str, error: str) -> None:
    assert lease_health("l", found, NOW) == (status, error)


async def test_every_component_has_its_row() -> None:
    page = await statuses().list(Selection())
    rows = [printers.cells(entry.message(), NOW) for entry in page.entries]
    assert rows == [
        ["scheduler", "Healthy", "ok", ""],
        ["controller-manager", "Unhealthy", "", "there is no Lease kube-system/kube-controller-manager"],
        ["etcd-0", "Healthy", "ok", ""],
        ["etcd-1", "Healthy", "ok", ""],
    ]
    assert page.revision == 0


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (StorageUnavailable("connection refused"), "connection refused"),
        (["memberID:1 alarm:NOSPACE", "etcdserver: no leader"], "memberID:1 alarm:NOSPACE; etcdserver: no leader"),
    ],
)
async def test_a_member_of_etcd_that_is_not_well(second: Any, error: str) -> None:
    asked = statuses(second)
    condition = (await asked.get("etcd-1")).message().conditions[0]
    assert (condition.type, condition.status, condition.message, condition.error) == ("Healthy", "False", "", error)
    assert (await asked.get("etcd-0")).message().conditions[0].status == "True"


async def test_selectors_and_names() -> None:
    async def names(selection: Selection) -> list[str]:
        return [entry.key for entry in (await statuses().list(selection)).entries]

    assert await names(Selection(field_selector="metadata.name=etcd-1")) == ["etcd-1"]
    assert await names(Selection(label_selector="a=b")) == []
    assert len(await names(Selection(label_selector="!a"))) == 4
    with pytest.raises(StatusError, match="not a known field selector"):
        await names(Selection(field_selector="spec.x=1"))
    with pytest.raises(StatusError, match='componentstatuses "etcd-2" not found'):
        await statuses().get("etcd-2")
