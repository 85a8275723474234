"""Makes cluster DNS a Service like any other: `kube-dns` in kube-system, with this machine's server as endpoint.

Each machine's proxy owns one EndpointSlice. The Service's internalTrafficPolicy is Local, so pods ask the server on
their own machine. One task; it looks at the informers' copies every few seconds and writes only what differs.
"""

import asyncio
import socket
from collections.abc import Callable

import structlog

from services.proxy.model import SERVICE_NAME_LABEL
from services.proxy.watch import ServiceWatch
from tillerman.api.status import StatusError, is_already_exists, is_conflict
from tillerman.client.client import Client
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery

log = structlog.get_logger(__name__)

NAMESPACE, NAME = "kube-system", "kube-dns"
MANAGED_BY = "proxy.tillerman.dev"
PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))
RETRY_SECONDS = 0.3
LOOK_SECONDS = 5.0


def wanted_service(cluster_ip: str) -> core.Service:
    service = core.Service()
    service.metadata.name, service.metadata.namespace = NAME, NAMESPACE
    service.metadata.labels.update(
        {"k8s-app": NAME, "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"}
    )
    service.spec.type = "ClusterIP"
    service.spec.clusterIP = cluster_ip
    service.spec.clusterIPs.append(cluster_ip)
    service.spec.internalTrafficPolicy = "Local"
    for name, protocol in PORTS:
        port = service.spec.ports.add(name=name, protocol=protocol, port=53)
        port.targetPort.type = 0
        port.targetPort.intVal = 53
    return service


def wanted_slice(hostname: str, address: str, port: int) -> discovery.EndpointSlice:
    slice_ = discovery.EndpointSlice(addressType="IPv4")
    slice_.metadata.name, slice_.metadata.namespace = f"{NAME}-{slug(hostname)}", NAMESPACE
    slice_.metadata.labels[SERVICE_NAME_LABEL] = NAME
    slice_.metadata.labels["endpointslice.kubernetes.io/managed-by"] = MANAGED_BY
    endpoint = slice_.endpoints.add(addresses=[address])
    endpoint.conditions.ready = endpoint.conditions.serving = True
    endpoint.conditions.terminating = False
    for name, protocol in PORTS:
        slice_.ports.add(name=name, protocol=protocol, port=port)
    return slice_


def slug(hostname: str) -> str:
    cleaned = "".join(c if c.isalnum() else "-" for c in hostname.lower()).strip("-")
    return cleaned[:50].strip("-") or "host"


class Publisher:
    """`where` tells the server's present address and port."""

    def __init__(
        self, client: Client, watch: ServiceWatch, *, cluster_ip: str, where: Callable[[], tuple[str, int]]
    ) -> None:
        self._services = client.resource(core.Service)
        self._slices = client.resource(discovery.EndpointSlice)
        self._watch = watch
        self._cluster_ip = cluster_ip
        self._where = where
        self._complained = ""

    async def run(self) -> None:
        for informer in (self._watch.services, self._watch.slices):
            await informer.synced.wait()
        while True:
            try:
                written = await self._ensure()
            except StatusError as error:
                # kube-system may not exist in the first moments.
                if self._complained != error.message:
                    self._complained = error.message
                    log.warning("cannot publish cluster DNS yet", error=error.message)
                written = True
            await asyncio.sleep(RETRY_SECONDS if written else LOOK_SECONDS)

    async def _ensure(self) -> bool:
        """True when something had to be written, and so should be looked at again soon."""
        address, port = self._where()
        service = self._watch.services.get(f"{NAMESPACE}/{NAME}")
        if service is None:
            await self._create_service()
            return True
        if service.spec.selector:
            return False  # somebody runs a DNS of their own behind that name
        wanted = wanted_slice(socket.gethostname(), address, port)
        present = self._watch.slices.get(f"{NAMESPACE}/{wanted.metadata.name}")
        if present is None:
            try:
                await self._slices.create(wanted)
            except StatusError as error:
                if not is_already_exists(error):
                    raise
            return True
        if (list(present.endpoints), list(present.ports)) == (list(wanted.endpoints), list(wanted.ports)):
            return False
        if [list(e.addresses) for e in present.endpoints] == [[address]] and {p.port for p in present.ports} == {port}:
            return False
        changed = discovery.EndpointSlice()
        changed.CopyFrom(present)
        del changed.endpoints[:], changed.ports[:]
        changed.endpoints.extend(wanted.endpoints)
        changed.ports.extend(wanted.ports)
        try:
            await self._slices.update(changed)
        except StatusError as error:
            if not is_conflict(error):
                raise
        return True

    async def _create_service(self) -> None:
        try:
            await self._services.create(wanted_service(self._cluster_ip))
            log.info("published cluster DNS", service=f"{NAMESPACE}/{NAME}", cluster_ip=self._cluster_ip)
        except StatusError as error:
            if not is_already_exists(error):
                raise
