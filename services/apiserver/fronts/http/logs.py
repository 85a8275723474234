"""pods/log: the query's options to the kubelet of the pod's node, its chunks back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import grpc

from services.apiserver.fronts.http.paths import flag, number
from services.apiserver.fronts.http.verbs import Request
from services.apiserver.fronts.pods import EOF, Kubelets
from services.apiserver.registry.context import Context, User
from services.apiserver.registry.registry import Registry
from tillerman.api import rpcstatus, times
from tillerman.api.status import (
    StatusError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_value,
    method_not_supported,
    service_unavailable,
)
from tillerman.pb.api import pods_pb2


class Logs:
    def __init__(self, registry: Registry, kubelets: Kubelets) -> None:
        self._registry = registry
        self._kubelets = kubelets

    async def read(self, request: Request, user: User) -> AsyncGenerator[bytes, None]:
        """The log's bytes. Raises StatusError, and NoLog for a pod that waits for a node."""
        target = request.target
        if request.method != "GET":
            raise method_not_supported("pods/log", request.method.lower())
        await self._registry.authorizer.authorize(Context(user), "get", target)
        wanted = log_request(request)
        pod = await self._kubelets.pod(target.namespace, target.name)
        check_container(pod, wanted)
        node = pod.spec.nodeName
        if not node:
            raise NoLog
        channel = await self._kubelets.channel_to(node)
        call = channel.unary_stream("/tillerman.v1.Kubelet/Logs")(wanted.SerializeToString())
        try:
            while (raw := await call.read()) is not EOF:
                yield pods_pb2.LogsChunk.FromString(raw).data
        except grpc.aio.AioRpcError as error:
            raise kubelet_failure(error, node) from error
        finally:
            call.cancel()


class NoLog(Exception):
    """There is nobody who could have one: the pod is on no node."""


def log_request(request: Request) -> pods_pb2.LogsRequest:
    """Raises BadRequest, Invalid."""
    query, target = request.query, request.target
    wanted = pods_pb2.LogsRequest(
        namespace=target.namespace,
        pod=target.name,
        container=query.get("container", ""),
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        timestamps=flag(query, "timestamps"),
    )
    causes = []
    for name, field, least in (
        ("tailLines", "tail_lines", 0),
        ("limitBytes", "limit_bytes", 1),
        ("sinceSeconds", "since_seconds", 1),
    ):
        value = number(query, name)
        if value is None:
            continue
        if value < least:
            detail = "must be greater than 0" if least else "must be greater than or equal to 0"
            causes.append(invalid_value(name, value, detail))
        else:
            setattr(wanted, field, value)
    if query.get("sinceSeconds") and query.get("sinceTime"):
        # Kubernetes names no field here but prints its empty path.
        causes.append(forbidden_field("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if causes:
        raise invalid("PodLogOptions", target.name, causes)
    if query.get("sinceTime"):
        try:
            since = times.parse_rfc3339(query["sinceTime"])
        except ValueError as error:
            raise bad_request(str(error)) from error
        wanted.since_time.seconds, wanted.since_time.nanos = since.seconds, since.nanos
    return wanted


def check_container(pod: Any, wanted: pods_pb2.LogsRequest | pods_pb2.ExecStart) -> None:
    """Fills in the only container of a pod. Raises BadRequest when the pod lacks the wanted one, or has several."""
    spec = pod.spec
    containers = [container.name for container in spec.containers]
    init = [container.name for container in spec.initContainers]
    if wanted.container:
        known = {
            *containers,
            *init,
            *(container.ephemeralContainerCommon.name for container in spec.ephemeralContainers),
        }
        if wanted.container not in known:
            raise bad_request(f"container {wanted.container} is not valid for pod {wanted.pod}")
        return
    if len(containers) == 1:
        wanted.container = containers[0]
        return
    detail = f"a container name must be specified for pod {wanted.pod}, choose one of: [{' '.join(containers)}]"
    raise bad_request(detail + (f" or one of the init containers: [{' '.join(init)}]" if init else ""))


def kubelet_failure(error: grpc.aio.AioRpcError, node: str) -> StatusError:
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return service_unavailable(f"the kubelet of node {node} cannot be reached: {error.details()}")
    return rpcstatus.from_rpc(error)
