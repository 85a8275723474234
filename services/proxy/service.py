"""The gRPC service Proxy: what is programmed, and what DNS answers."""

from typing import Any

import grpc
import grpc.aio

from services.proxy.dns.server import Resolver
from services.proxy.watch import ServiceWatch
from tillerman.pb.api import proxy_pb2 as pb
from tillerman.pb.api import proxy_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ProxyService(proxy_pb2_grpc.ProxyServicer):
    def __init__(self, *, mode: str, watch: ServiceWatch, resolver: Resolver) -> None:
        self._mode = mode
        self._watch = watch
        self._resolver = resolver

    async def Services(self, request: pb.ProxyServicesRequest, context: Context) -> pb.ProxyServicesResponse:
        return pb.ProxyServicesResponse(
            mode=self._mode,
            rules=[
                pb.ServicePortRule(
                    namespace=key.namespace,
                    service=key.service,
                    port_name=key.port_name,
                    protocol=key.protocol,
                    cluster_ip=port.cluster_ips[0] if port.cluster_ips else "",
                    port=port.port,
                    node_port=port.node_port,
                    external_ips=port.external_ips,
                    backends=len(port.targets),
                )
                for key, port in sorted(self._watch.ports.items())
            ],
        )

    async def Backends(self, request: pb.BackendsRequest, context: Context) -> pb.BackendsResponse:
        """NOT_FOUND when no rules exist for the Service."""
        namespace = request.namespace or "default"
        ports = [
            port
            for key, port in sorted(self._watch.ports.items())
            if (key.namespace, key.service) == (namespace, request.service)
        ]
        if not ports:
            message = (
                f'no rules for service "{namespace}/{request.service}": it does not exist, is headless or external'
            )
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return pb.BackendsResponse(
            backends=[
                pb.BackendsResponse.Backend(
                    address=endpoint.address,
                    port=endpoint.port,
                    port_name=port.key.port_name,
                    pod=endpoint.pod,
                    node=endpoint.node,
                    ready=endpoint.target in port.targets,
                )
                for port in ports
                for endpoint in port.endpoints
            ]
        )

    async def Resolve(self, request: pb.ResolveRequest, context: Context) -> pb.ResolveResponse:
        """INVALID_ARGUMENT for what is no name or record type."""
        try:
            found = await self._resolver.lookup(request.name, request.type or "A")
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.ResolveResponse(
            code=found.code,
            answers=[record.data for record in found.records],
            ttl_seconds=min((record.ttl for record in found.records), default=0),
        )
