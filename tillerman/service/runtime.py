"""ServiceRuntime: what a service's `start` function gets, and everything it needs from the scaffold."""

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from prometheus_client import REGISTRY, CollectorRegistry

from tillerman.client.channel import ClientConfig
from tillerman.client.clock import Clock, RealClock
from tillerman.service.acceptors import Acceptors
from tillerman.service.health import Health, LazyReflection
from tillerman.service.instrument import Registrar
from tillerman.service.options import OptionsError, ServiceOptions
from tillerman.service.pages import Pages
from tillerman.service.tasks import RootTasks
from tillerman.service.tls import CertificateFiles, UserInfo, bearer_token, peer_identity

if TYPE_CHECKING:
    from tillerman.client.client import Client

Opt = TypeVar("Opt", bound=ServiceOptions)


@dataclass(frozen=True, slots=True)
class Component:
    """A service's name and its defaults for options; `defaults` may hold any option. `acceptors`: how many servers take
    calls from its ports, see acceptors.py."""

    name: str
    default_port: int = 0
    default_metrics_port: int = 0
    defaults: dict[str, Any] = field(default_factory=dict)
    acceptors: int = 1

    def option_defaults(self) -> dict[str, Any]:
        return {"port": self.default_port, "metrics_port": self.default_metrics_port, **self.defaults}


class ServiceRuntime(Generic[Opt]):
    """One per process. `port` and `metrics_port` are the real ones, also where the options say 0."""

    def __init__(self, component: Component, options: Opt, log: Any, *, clock: Clock | None = None) -> None:
        self.component = component
        self.options = options
        self.log = log
        self.clock = clock or RealClock()
        self.registry: CollectorRegistry = REGISTRY
        self._root = RootTasks()
        self.task_group: asyncio.TaskGroup = self._root
        self.port = 0
        self.token_port = 0
        self.metrics_port = 0
        self.stopping = asyncio.Event()
        self.server = Acceptors(component.acceptors)
        self._registrar = Registrar(self.server, log)
        self.health = Health(lambda: self._registrar.services)
        self.pages = Pages(lambda: self._not_ready)
        self._began = perf_counter()
        self._client: Client | None = None
        self._shutdown_hooks: list[Callable[[], Awaitable[Any]]] = []
        self._unique = uuid.uuid4()
        self._not_ready = ["starting"]
        self._serving = False

    # For the service's start function

    def client(self) -> "Client":
        """The process's one client of the API server, from --kubeconfig; its calls wait for the server while that is
        away. Raises OptionsError without --kubeconfig."""
        if self._client is None:
            from tillerman.client.client import Client
            from tillerman.service.upstream import follow_connection, observe_call

            config = self.client_config()
            self._client = Client.from_config(config, field_manager=self.component.name, wait_for_ready=True)
            self._client.caller.observer = observe_call
            following = follow_connection(self._client, self.log, servers=config.servers)
            self.task_group.create_task(following, name="api-server-connection")
        return self._client

    @property
    def identity(self) -> str:
        """For leader election: names this process. A process that holds a fixed port knows that an earlier one which
        held it is gone, so it may go on with that one's Lease; without a fixed port the name is new each time."""
        host = socket.gethostname()
        if self.options.port:
            return f"{host}_{self.options.bind_address}:{self.options.port}"
        return f"{host}_{self._unique}"

    def client_config(self) -> ClientConfig:
        """Raises OptionsError when --kubeconfig is missing or wrong."""
        if self.options.kubeconfig is None:
            raise OptionsError("--kubeconfig is needed to reach the API server")
        try:
            return ClientConfig.load(self.options.kubeconfig)
        except (ValueError, OSError) as error:
            raise OptionsError(f"--kubeconfig: {error}") from error

    def add_servicer(self, add: Callable[[Any, Any], None], servicer: Any) -> None:
        """runtime.add_servicer(scheduler_pb2_grpc.add_SchedulerServicer_to_server, servicer); before `serve`."""
        add(servicer, self._registrar)

    def add_generic_handlers(self, service: str, handlers: "dict[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
        """Methods without generated code; those of a service that generated code serves too take its place."""
        self._registrar.add_registered_method_handlers(service, handlers)

    def wait_for(self, what: str) -> Callable[[], None]:
        """Holds /readyz back until the returned function is called; the page says what is waited for."""
        self._not_ready.append(what)

        def arrived() -> None:
            if what in self._not_ready:
                self._not_ready.remove(what)

        return arrived

    def on_shutdown(self, hook: Callable[[], Awaitable[Any]]) -> None:
        """Called at shutdown, before calls are ended and root tasks cancelled; the last added first. A hook has half of
        --shutdown-timeout."""
        self._shutdown_hooks.append(hook)

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """A task that may end (root tasks of `task_group` may not). One that raises ends the process all the same."""
        return self._root.create_finite(coro, name=name)

    async def serve(self) -> None:
        """Starts the gRPC server; the scaffold does after `start` unless it has been called before."""
        if self._serving:
            return
        self._serving = True
        self.server.add_generic_rpc_handlers((LazyReflection(lambda: self._registrar.services),))
        self.health.register(self._registrar)
        await self.server.start()

    def ready(self) -> None:
        """Tells the world; the scaffold does after `start` unless it has been called before."""
        if "starting" not in self._not_ready:
            return
        self._not_ready.remove("starting")
        seconds = round(perf_counter() - self._began, 3)
        ports = {"port": self.port, "metrics_port": self.metrics_port}
        self.log.info("ready", address=self.options.bind_address, pid=os.getpid(), seconds=seconds, **ports)
        self._announce(ports)
        self.spawn(self.health.set("serving"), name="announce-health")

    @staticmethod
    def peer_identity(context: Any) -> UserInfo:
        """The caller, by its client certificate; tls.ANONYMOUS without one."""
        return peer_identity(context)

    @staticmethod
    def bearer_token(context: Any) -> str:
        """The caller's token; empty without one."""
        return bearer_token(context)

    # For the scaffold

    def listen(self) -> None:
        """Binds the ports: connections queue up from now on. Raises OptionsError."""
        options = self.options
        if options.insecure:
            self.log.warning("insecure: no encryption and no authentication; anyone who reaches the port is in")
            self.port = self._bind(options.port, None)
            return
        files = CertificateFiles(options)
        self.port = self._bind(options.port, partial(files.credentials, require_client_certificate=True))
        if options.token_port >= 0:
            lenient = partial(files.credentials, require_client_certificate=False)
            self.token_port = self._bind(options.token_port, lenient)

    async def serve_pages(self) -> None:
        """Starts the HTTP pages. Raises OptionsError when the port is taken."""
        options = self.options
        if options.metrics_port < 0:
            return
        tls = None
        if options.metrics_tls and options.tls_cert_file:
            import ssl

            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(options.tls_cert_file, options.tls_key_file)
        try:
            self.metrics_port = await self.pages.start(options.metrics_bind_address, options.metrics_port, tls)
        except OSError as error:
            where = f"{options.metrics_bind_address}:{options.metrics_port}"
            raise OptionsError(f"--metrics-port: cannot listen on {where}: {error.strerror or error}") from error

    async def stop_serving(self) -> None:
        """Runs the shutdown hooks, then ends the calls in progress."""
        self.stopping.set()
        self._not_ready.append("shutting down")
        if self._client is not None:
            self._client.caller.wait_for_ready = False
        if self._serving:
            await self.health.set("not_serving")
        for hook in reversed(self._shutdown_hooks):
            try:
                async with asyncio.timeout(self.options.shutdown_timeout / 2):
                    await hook()
            except Exception:
                self.log.exception("shutdown hook failed", hook=getattr(hook, "__qualname__", str(hook)))
        if self._serving:
            self._registrar.end_streams()
            await self.server.stop(self.options.shutdown_grace)

    async def close(self) -> None:
        """The last steps, once all tasks are gone."""
        await self.server.stop(0)
        if self._client is not None:
            await self._client.close()
        await self.pages.stop()

    def _bind(self, port: int, credentials: Callable[[], grpc.ServerCredentials] | None) -> int:
        address = self.options.bind_address
        host = f"[{address}]" if ":" in address else address
        try:
            return self.server.listen(host, port, credentials)
        except (RuntimeError, OSError) as error:
            raise OptionsError(f"--port: cannot listen on {host}:{port}: {error}") from error

    def _announce(self, ports: dict[str, int]) -> None:
        if self.options.ready_file is not None:
            import json

            draft = self.options.ready_file.with_name(self.options.ready_file.name + ".new")
            draft.write_text(json.dumps({"pid": os.getpid(), **ports}))
            draft.replace(self.options.ready_file)
        if notify := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.sendto(b"READY=1", "\0" + notify[1:] if notify[0] == "@" else notify)
