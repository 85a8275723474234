"""A Service's cluster IP and node ports: given when it is written, taken back when the write fails or it goes."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from services.apiserver.allocation.ranges import Full, OutOfRange, RangeAllocator, Taken
from services.apiserver.registry.context import Context
from services.apiserver.registry.resource import Resource
from services.apiserver.storage.errors import StorageError
from tillerman.api.status import Cause, StatusError, internal, invalid, invalid_value

REPAIR_SECONDS = 180.0

log = structlog.get_logger("apiserver.allocation")


class ServiceAllocator:
    """A registry.writing.WriteHook for services."""

    def __init__(self, *, addresses: RangeAllocator, ports: RangeAllocator) -> None:
        self._addresses = addresses
        self._ports = ports

    async def allocate(self, new: Any, old: Any | None, context: Context) -> Callable[[], Awaitable[None]]:
        """Raises Invalid for an address or port that is taken or out of range, InternalError when none is left."""
        taken_ips: list[int] = []
        taken_ports: list[int] = []

        async def undo() -> None:
            await self._addresses.give_back(taken_ips)
            await self._ports.give_back(taken_ports)

        try:
            await self._address(new, old, taken_ips)
            await self._node_ports(new, old, taken_ports)
        except BaseException:
            await undo()
            raise
        return undo

    async def settle(self, new: Any | None, old: Any | None) -> None:
        if old is None:
            return
        await self._addresses.give_back(addresses_of(old) - (addresses_of(new) if new is not None else set()))
        await self._ports.give_back(ports_of(old) - (ports_of(new) if new is not None else set()))

    async def repair_forever(self, services: Resource) -> None:
        """Brings the ranges in line with the Services that exist, again and again."""
        while True:
            try:
                await self.repair(services)
            except (StorageError, Full) as error:
                log.warning("could not repair the ranges of Services; trying again later", error=str(error))
            await asyncio.sleep(REPAIR_SECONDS)

    async def repair(self, services: Resource) -> None:
        """Marks what the Services hold; gives back what was found unused the last time too. Raises StorageError."""
        found = [entry.message() for entry in list(services.cache.entries.values())]
        await self._addresses.repair({n for service in found for n in addresses_of(service)})
        await self._ports.repair({n for service in found for n in ports_of(service)})

    async def _address(self, new: Any, old: Any | None, taken: list[int]) -> None:
        spec = new.spec
        if spec.type == "ExternalName":
            return
        if spec.clusterIP == "None":
            if not spec.clusterIPs:
                spec.clusterIPs.append("None")
        elif old is None or not addresses_of(new) or not addresses_of(new) <= addresses_of(old):
            if spec.clusterIP:
                number = int(ipaddress.ip_address(spec.clusterIP))
                try:
                    await self._addresses.take(number)
                except Taken:
                    raise _bad_address(new, "failed to allocate IP {0}: provided IP is already allocated") from None
                except OutOfRange:
                    outside = "the provided IP is not in the valid range. The range of valid IPs is "
                    detail = "failed to allocate IP {0}: " + outside + self._addresses.range.text
                    raise _bad_address(new, detail) from None
            else:
                try:
                    number = await self._addresses.take_any()
                except Full as error:
                    raise internal(f"failed to allocate a serviceIP: range is full: {error}") from error
                spec.clusterIP = str(ipaddress.ip_address(number))
            taken.append(number)
        if spec.clusterIP != "None" or not spec.clusterIPs:
            del spec.clusterIPs[:]
            spec.clusterIPs.append(spec.clusterIP)
        if not spec.ipFamilies:
            spec.ipFamilies.append("IPv6" if ":" in spec.clusterIP else "IPv4")
        if not spec.ipFamilyPolicy:
            spec.ipFamilyPolicy = "SingleStack"

    async def _node_ports(self, new: Any, old: Any | None, taken: list[int]) -> None:
        spec = new.spec
        if not wants_node_ports(spec):
            return
        held = ports_of(old) if old is not None else set()
        mine = set(held)
        for index, port in enumerate(spec.ports):
            if port.nodePort and port.nodePort not in mine:
                await self._take_port(new, f"spec.ports[{index}].nodePort", port.nodePort)
                mine.add(port.nodePort)
                taken.append(port.nodePort)
        unwanted = spec.HasField("allocateLoadBalancerNodePorts") and not spec.allocateLoadBalancerNodePorts
        if spec.type == "LoadBalancer" and unwanted:
            return
        for port in spec.ports:
            if not port.nodePort:
                # One number serves the same port over TCP and UDP.
                same = [
                    p.nodePort for p in spec.ports if p.port == port.port and p.protocol != port.protocol and p.nodePort
                ]
                port.nodePort = same[0] if same else await self._any_port()
                if not same:
                    taken.append(port.nodePort)
        if spec.type == "LoadBalancer" and spec.externalTrafficPolicy == "Local":
            if not spec.healthCheckNodePort:
                spec.healthCheckNodePort = await self._any_port()
                taken.append(spec.healthCheckNodePort)
            elif spec.healthCheckNodePort not in mine:
                await self._take_port(new, "spec.healthCheckNodePort", spec.healthCheckNodePort)
                taken.append(spec.healthCheckNodePort)

    async def _take_port(self, service: Any, path: str, number: int) -> None:
        try:
            await self._ports.take(number)
        except Taken:
            cause = invalid_value(path, number, "provided port is already allocated")
            raise invalid("Service", service.metadata.name, [cause]) from None
        except OutOfRange:
            detail = f"provided port is not in the valid range. The range of valid ports is {self._ports.range.text}"
            raise invalid("Service", service.metadata.name, [invalid_value(path, number, detail)]) from None

    async def _any_port(self) -> int:
        try:
            return await self._ports.take_any()
        except Full as error:
            raise internal(f"failed to allocate a nodePort: range is full: {error}") from error


def wants_node_ports(spec: Any) -> bool:
    return spec.type in ("NodePort", "LoadBalancer")


def addresses_of(service: Any) -> set[int]:
    spec = service.spec
    if spec.type == "ExternalName":
        return set()
    return {int(ipaddress.ip_address(ip)) for ip in (spec.clusterIPs or [spec.clusterIP]) if ip not in ("", "None")}


def ports_of(service: Any) -> set[int]:
    spec = service.spec
    found = {port.nodePort for port in spec.ports if port.nodePort}
    if spec.healthCheckNodePort:
        found.add(spec.healthCheckNodePort)
    return found


def _bad_address(service: Any, detail: str) -> StatusError:
    address = service.spec.clusterIP
    cause = Cause("spec.clusterIPs", "FieldValueInvalid", f'Invalid value: ["{address}"]: {detail.format(address)}')
    return invalid("Service", service.metadata.name, [cause])
