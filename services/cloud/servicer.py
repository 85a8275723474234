"""The gRPC service CloudControllerManager: what the provider has for this cluster."""

from collections.abc import Callable
from typing import Any

import grpc

from services.cloud.controllers.context import Context
from services.cloud.controllers.load_balancers import wants_load_balancer
from services.cloud.provider import ProviderError
from tillerman.pb.api import cloud_pb2 as pb
from tillerman.pb.api import cloud_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core


class CloudServicer(cloud_pb2_grpc.CloudControllerManagerServicer):
    """`balanced_nodes` are the nodes behind the load balancers. UNAVAILABLE when the cloud does not answer."""

    def __init__(self, context: Context, balanced_nodes: Callable[[], list[core.Node]]) -> None:
        self._context = context
        self._balanced_nodes = balanced_nodes

    async def Instances(self, request: pb.InstancesRequest, context: Any) -> pb.InstancesResponse:
        provider = self._context.provider
        response = pb.InstancesResponse(provider=provider.name)
        for node in sorted(self._context.nodes.list(), key=lambda node: node.metadata.name):
            try:
                instance = await provider.instances.find(node)
            except ProviderError as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
                raise AssertionError("abort raises") from error
            if instance is not None:
                response.instances.add(
                    node=node.metadata.name,
                    provider_id=instance.provider_id,
                    type=instance.type,
                    zone=instance.zone,
                    region=instance.region,
                    addresses=[address for _, address in instance.addresses],
                    shutdown=instance.shutdown,
                )
        return response

    async def LoadBalancers(self, request: pb.LoadBalancersRequest, context: Any) -> pb.LoadBalancersResponse:
        response = pb.LoadBalancersResponse()
        load_balancers = self._context.provider.load_balancers
        if load_balancers is None:
            return response
        nodes = [node.metadata.name for node in self._balanced_nodes()]
        for service in self._context.services.list():
            if wants_load_balancer(service):
                response.load_balancers.add(
                    namespace=service.metadata.namespace,
                    service=service.metadata.name,
                    name=load_balancers.name(service),
                    ingress=[i.ip or i.hostname for i in service.status.loadBalancer.ingress],
                    nodes=nodes,
                )
        return response

    async def Routes(self, request: pb.RoutesRequest, context: Any) -> pb.RoutesResponse:
        response = pb.RoutesResponse()
        routes = self._context.provider.routes
        if routes is None:
            return response
        try:
            found = await routes.list(self._context.nodes.list())
        except ProviderError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        for route in found:
            response.routes.add(name=route.name, node=route.node, cidr=route.cidr)
        return response
