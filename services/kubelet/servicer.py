"""The Kubelet gRPC service: pods and stats of the node, and the streams of its containers.

Who may call: the API server and administrators everything; the controller manager (and whoever scrapes) Pods and Stats.
Errors: NOT_FOUND for an unknown pod, INVALID_ARGUMENT for an unknown or ambiguous container, FAILED_PRECONDITION for a
container that does not run, PERMISSION_DENIED, UNAVAILABLE when the runtime fails.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog

from services.kubelet.metrics import HTTP_STREAMS
from services.kubelet.node_pages import NodePages
from services.kubelet.pod_containers import all_containers
from services.kubelet.pod_manager import PodManager
from services.kubelet.pod_worker import PodWorker
from services.kubelet.runtime.interface import (
    ContainerState,
    LogOptions,
    NotFoundFailure,
    Phase,
    Runtime,
    RuntimeFailure,
    Session,
)
from services.kubelet.stats import ContainerUsage, StatsCollector
from tillerman.client.clock import Clock
from tillerman.pb.api import kubelet_pb2 as pb
from tillerman.pb.api import kubelet_pb2_grpc, pods_pb2
from tillerman.service import UserInfo

log = structlog.get_logger(__name__)
_EVERYTHING = {"kube-apiserver", "kube-apiserver-kubelet-client", "apiserver-kubelet-client", "kubernetes-admin"}
_EVERYTHING_GROUPS = {"system:masters", "kubeadm:cluster-admins"}
_STATS_ONLY = {"system:kube-controller-manager", "system:kube-scheduler", "system:metrics-server"}
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_CHUNK = 64 * 1024


class KubeletServicer(kubelet_pb2_grpc.KubeletServicer):
    def __init__(
        self,
        manager: PodManager,
        stats: StatsCollector,
        runtime: Runtime,
        pages: NodePages,
        *,
        node: str,
        clock: Clock,
        identify: Callable[[Any], UserInfo],
        insecure: bool,
    ) -> None:
        self._manager = manager
        self._stats = stats
        self._runtime = runtime
        self._pages = pages
        self._node = node
        self._clock = clock
        self._identify = identify
        self._insecure = insecure

    async def Pods(self, request: pb.PodsRequest, context: Any) -> pb.PodsResponse:
        await self._authorize(context, stats=True)
        response = pb.PodsResponse(node=self._node, runtime=self._runtime.name)
        for worker in self._manager.workers.values():
            meta, sandbox = worker.pod.metadata, worker.observed.sandbox
            response.pods.add(
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                phase=worker.phase,
                ip=sandbox.ip if sandbox else "",
                activity=worker.activity,
                containers=[c.name for c in all_containers(worker.pod)],
            )
        return response

    async def Stats(self, request: pb.StatsRequest, context: Any) -> pb.StatsResponse:
        await self._authorize(context, stats=True)
        node, pods = await self._stats.current()
        response = pb.StatsResponse(node=self._node)
        if node is not None:
            _fill(response.node_usage, node)
            response.window_seconds = node.window
        for pod, usages in pods:
            entry = response.pods.add(namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.metadata.uid)
            for usage in usages:
                _fill(entry.containers.add(name=usage.name).usage, usage)
        return response

    async def Page(self, request: pb.PageRequest, context: Any) -> pb.PageResponse:
        await self._authorize(context)
        status, kind, body = await self._pages.answer(request.path)
        return pb.PageResponse(status=status, content_type=kind, body=body)

    async def Logs(self, request: pods_pb2.LogsRequest, context: Any) -> AsyncIterator[pods_pb2.LogsChunk]:
        await self._authorize(context)
        worker, name = await self._target(request.namespace, request.pod, request.container, context)
        state = await self._attempt(worker, name, request.previous, context)
        since: float | None = None
        if request.HasField("since_seconds"):
            since = self._clock.time() - request.since_seconds
        elif request.HasField("since_time"):
            since = request.since_time.seconds + request.since_time.nanos / 1e9
        options = LogOptions(
            follow=request.follow,
            tail_lines=request.tail_lines if request.HasField("tail_lines") else None,
            since=since,
            timestamps=request.timestamps,
            limit_bytes=request.limit_bytes if request.HasField("limit_bytes") else None,
        )
        with HTTP_STREAMS.labels("logs").track_inprogress():
            try:
                async for data in self._runtime.logs(state.id, options):
                    yield pods_pb2.LogsChunk(data=data)
            except RuntimeFailure as error:
                await _abort(context, error)

    async def Exec(
        self, request_iterator: AsyncIterator[pods_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[pods_pb2.ExecResponse]:
        start = await self._started(request_iterator, context)

        async def open_session(state: ContainerState) -> Session:
            if not start.command:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "you must specify a command to run")
            return await self._runtime.exec(state.id, list(start.command), stdin=start.stdin, tty=start.tty)

        async for response in self._session(start, request_iterator, context, open_session, "exec"):
            yield response

    async def Attach(
        self, request_iterator: AsyncIterator[pods_pb2.ExecRequest], context: Any
    ) -> AsyncIterator[pods_pb2.ExecResponse]:
        start = await self._started(request_iterator, context)

        async def open_session(state: ContainerState) -> Session:
            return await self._runtime.attach(state.id, stdin=start.stdin, tty=start.tty)

        async for response in self._session(start, request_iterator, context, open_session, "attach"):
            yield response

    async def _started(self, requests: AsyncIterator[pods_pb2.ExecRequest], context: Any) -> pods_pb2.ExecStart:
        await self._authorize(context)
        async for request in requests:
            if request.HasField("start"):
                return request.start
            break
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must carry start")
        raise AssertionError("abort raises")

    async def _session(
        self,
        start: pods_pb2.ExecStart,
        requests: AsyncIterator[pods_pb2.ExecRequest],
        context: Any,
        open_session: Callable[[ContainerState], Awaitable[Session]],
        kind: str,
    ) -> AsyncIterator[pods_pb2.ExecResponse]:
        worker, name = await self._target(start.namespace, start.pod, start.container, context)
        state = worker.observed.view(name).latest
        if state is None or state.phase is not Phase.RUNNING:
            words = f"container {name} of pod {start.pod} is not running"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, words)
            return
        try:
            session = await open_session(state)
        except RuntimeFailure as error:
            await _abort(context, error)
            return
        feeder = asyncio.create_task(_feed(session, requests), name=f"{kind}-stdin")
        try:
            with HTTP_STREAMS.labels(kind).track_inprogress():
                async for part in session.output():
                    if part.stderr:
                        yield pods_pb2.ExecResponse(stderr=part.data)
                    else:
                        yield pods_pb2.ExecResponse(stdout=part.data)
                yield pods_pb2.ExecResponse(exit_code=await session.exit_code())
        except RuntimeFailure as error:
            await _abort(context, error)
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await session.close()

    async def PortForward(
        self, request_iterator: AsyncIterator[pods_pb2.PortForwardRequest], context: Any
    ) -> AsyncIterator[pods_pb2.PortForwardResponse]:
        await self._authorize(context)
        first = await anext(request_iterator, None)
        if first is None or not first.HasField("start"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must carry start")
            return
        start = first.start
        worker = await self._worker(start.namespace, start.pod, context)
        sandbox = worker.observed.sandbox
        if sandbox is None or not sandbox.running:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"pod {start.pod} is not running")
            return
        try:
            host, port = await self._runtime.dial(sandbox, start.port)
            reader, writer = await asyncio.open_connection(host, port)
        except (OSError, RuntimeFailure) as error:
            words = f"cannot connect to port {start.port} of pod {start.pod}: {error}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, words)
            return
        feeder = asyncio.create_task(_forward(request_iterator, writer), name="port-forward")
        try:
            with HTTP_STREAMS.labels("portforward").track_inprogress():
                while data := await reader.read(_CHUNK):
                    yield pods_pb2.PortForwardResponse(data=data)
        except OSError as error:
            log.debug("port_forward_ended", error=str(error))
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            writer.close()

    async def _authorize(self, context: Any, *, stats: bool = False) -> None:
        if self._insecure:
            return
        user = self._identify(context)
        if user.name in _EVERYTHING or _EVERYTHING_GROUPS & set(user.groups):
            return
        if stats and user.name in _STATS_ONLY:
            return
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f'user "{user.name}" may not use this kubelet')

    async def _worker(self, namespace: str, name: str, context: Any) -> PodWorker:
        worker = self._manager.worker_of(namespace, name)
        if worker is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'pods "{name}" not found on node {self._node}')
            raise AssertionError("abort raises")
        return worker

    async def _target(self, namespace: str, name: str, container: str, context: Any) -> tuple[PodWorker, str]:
        worker = await self._worker(namespace, name, context)
        names = [c.name for c in all_containers(worker.pod)]
        mains = [c.name for c in worker.pod.spec.containers]
        chosen = container or worker.pod.metadata.annotations.get(_DEFAULT_CONTAINER, "")
        if not chosen:
            if len(mains) > 1:
                words = f"a container name must be specified for pod {name}, choose one of: [{' '.join(mains)}]"
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
            chosen = mains[0]
        if chosen not in names:
            words = f"container {chosen} is not valid for pod {name}, choose one of: [{' '.join(names)}]"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
        return worker, chosen

    async def _attempt(self, worker: PodWorker, name: str, previous: bool, context: Any) -> ContainerState:
        attempts = worker.observed.view(name).attempts
        index = 1 if previous else 0
        if len(attempts) > index:
            return attempts[index]
        pod = worker.pod.metadata.name
        if previous:
            words = f'previous terminated container "{name}" in pod "{pod}" not found'
        else:
            words = f'container "{name}" in pod "{pod}" is waiting to start: {worker.activity}'
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
        raise AssertionError("abort raises")


async def _feed(session: Session, requests: AsyncIterator[pods_pb2.ExecRequest]) -> None:
    """What the caller sends, into the session."""
    async for request in requests:
        kind = request.WhichOneof("message")
        if kind == "stdin":
            await session.write(request.stdin)
        elif kind == "resize":
            await session.resize(request.resize.width, request.resize.height)
        elif kind == "close_stdin":
            await session.close_stdin()
    await session.close_stdin()


async def _forward(requests: AsyncIterator[pods_pb2.PortForwardRequest], writer: asyncio.StreamWriter) -> None:
    try:
        async for request in requests:
            writer.write(request.data)
            await writer.drain()
        writer.write_eof()
    except OSError as error:
        log.debug("port_forward_input_ended", error=str(error))


async def _abort(context: Any, error: RuntimeFailure) -> None:
    code = grpc.StatusCode.NOT_FOUND if isinstance(error, NotFoundFailure) else grpc.StatusCode.UNAVAILABLE
    await context.abort(code, str(error))


def _fill(target: pb.Usage, usage: ContainerUsage) -> None:
    seconds = int(usage.usage.time)
    target.time.seconds, target.time.nanos = seconds, int((usage.usage.time - seconds) * 1e9)
    target.cpu_nanocores = usage.cpu_nanocores
    target.memory_bytes = usage.usage.memory
    target.cpu_total_nanoseconds = usage.usage.cpu_total
