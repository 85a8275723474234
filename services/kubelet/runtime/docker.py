"""The Docker runtime: a pod is a sandbox container that owns the network namespace and the pod's address, and its
containers joined to it.

Starting a container is two calls (create, start) and nothing is asked again: exits come as events, and the labels on
every container hold what a restarted kubelet has to know. At most four starts run at once, which is where one Docker
Engine stops gaining.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog

from services.kubelet.runtime import interface as ri
from services.kubelet.runtime.docker_engine import Engine
from services.kubelet.runtime.docker_events import DockerEvents
from services.kubelet.runtime.docker_images import DockerImages
from services.kubelet.runtime.docker_pause import PAUSE_VERSION, pause_image
from services.kubelet.runtime.docker_spec import (
    KIND_CONTAINER,
    KIND_SANDBOX,
    container_body,
    container_name,
    container_of_inspect,
    container_of_spec,
    resource_limits,
    sandbox_body,
    sandbox_name,
    sandbox_of_summary,
)
from services.kubelet.runtime.docker_stats import DockerStats
from services.kubelet.runtime.docker_streams import DockerSession, read_logs
from services.kubelet.runtime.interface import (
    ConflictFailure,
    ContainerSpec,
    ContainerState,
    ImageState,
    Inventory,
    LogOptions,
    NotFoundFailure,
    Phase,
    RegistryAuth,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeInfo,
    RuntimeUnavailable,
    SandboxSpec,
    SandboxState,
    Session,
    Usage,
)

log = structlog.get_logger(__name__)
PAUSE_REPOSITORY = "tillerman/pause"
_NETWORK_ATTEMPTS = 20
_NETWORK_RETRY_SECONDS = 0.05
PAUSE_IMAGE = f"{PAUSE_REPOSITORY}:{PAUSE_VERSION}"
_RELEASE_ATTEMPTS, _RELEASE_PAUSE_SECONDS = 40, 0.25


class DockerRuntime:
    """cluster and node scope everything: another cluster's containers are never seen or touched."""

    name = "docker"

    def __init__(self, *, cluster: str, node: str, network: str, cluster_cidr: str) -> None:
        self._labels = {ri.LABEL_CLUSTER: cluster, ri.LABEL_NODE: node}
        self._cluster = cluster
        self._network = network
        self._cluster_cidr = cluster_cidr
        self._architecture = ""
        self._engine = Engine()
        self._images = DockerImages(self._engine)
        self._events = DockerEvents(self._engine, labels=self._labels, on_image_event=self._images.forget)
        self._stats = DockerStats(self._engine)

    async def start(self) -> RuntimeInfo:
        await self._engine.connect()
        info = await self._engine.call("info", lambda client: client.info())
        self._architecture = str(info.get("Architecture", "x86_64"))
        await asyncio.gather(self._ensure_pause(self._architecture), self._ensure_network())
        self._stats.configure(info)
        version = info.get("ServerVersion", "")
        return RuntimeInfo("docker", version, f"docker://{version}")

    async def close(self) -> None:
        await self._engine.close()

    async def ping(self) -> None:
        await self._engine.call("ping", lambda client: client.ping())

    def pod_cidr(self, node_cidr: str) -> str:
        return node_cidr

    async def _ensure_pause(self, architecture: str) -> None:
        if await self._images.image(PAUSE_IMAGE) is not None:
            return
        image = await asyncio.to_thread(pause_image, architecture, PAUSE_IMAGE)
        await self._engine.call("load_image", lambda client: list(client.load_image(image)))

    async def _ensure_network(self) -> None:
        """One bridge for all kubelets of the cluster on this engine; whoever comes first makes it."""
        subnet = self._cluster_cidr
        gateway = subnet.split("/")[0].rsplit(".", 1)[0] + ".1"
        body = {
            "Name": self._network,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet, "Gateway": gateway}]},
            "Labels": {ri.LABEL_CLUSTER: self._cluster},
        }
        if await self._has_network():
            await self._check_subnet(subnet)
            return

        def create(client: Any) -> None:
            client._result(client._post_json(client._url("/networks/create"), data=body), json=True)

        for attempt in range(_NETWORK_ATTEMPTS):
            try:
                await self._engine.call("create_network", create)
                return
            except RuntimeFailure as error:
                # Another kubelet of the cluster may have been quicker; its range is then in use, too, a moment before
                # its network is to be seen.
                if isinstance(error, ConflictFailure) or await self._has_network():
                    return
                if "overlaps" not in str(error) or attempt == _NETWORK_ATTEMPTS - 1:
                    raise RuntimeFailure(
                        f"cannot create the Docker network {self._network} (--cluster-cidr {subnet}): {error}"
                    ) from error
            await asyncio.sleep(_NETWORK_RETRY_SECONDS)

    async def _check_subnet(self, subnet: str) -> None:
        """Pods' addresses could not be given out in a network of another range."""
        found = await self._engine.call("inspect_network", lambda client: client.inspect_network(self._network))
        ranges = [config.get("Subnet") for config in found["IPAM"]["Config"] or ()]
        if subnet not in ranges:
            raise RuntimeFailure(
                f"the Docker network {self._network} has the range {', '.join(map(str, ranges))}, not {subnet} "
                f"(--cluster-cidr): remove it (docker network rm {self._network}) or name another with --pod-network"
            )

    async def _has_network(self) -> bool:
        found = await self._engine.call("list_networks", lambda client: client.networks(names=[self._network]))
        return any(network["Name"] == self._network for network in found)

    async def inventory(self) -> Inventory:
        filters = {"label": [f"{name}={value}" for name, value in self._labels.items()]}
        entries = await self._engine.call("list", lambda client: client.containers(all=True, filters=filters))
        sandboxes = [sandbox_of_summary(e) for e in entries if e["Labels"].get(ri.LABEL_KIND) == KIND_SANDBOX]
        ids = [e["Id"] for e in entries if e["Labels"].get(ri.LABEL_KIND) == KIND_CONTAINER]
        found = await asyncio.gather(*(self._inspect(container_id) for container_id in ids))
        return Inventory(tuple(sandboxes), tuple(state for state in found if state is not None))

    async def _inspect(self, container_id: str) -> ContainerState | None:
        try:
            answer = await self._engine.call("inspect", lambda client: client.inspect_container(container_id))
        except NotFoundFailure:
            return None
        return container_of_inspect(answer)

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return self._events.stream()

    async def run_sandbox(self, spec: SandboxSpec) -> SandboxState:
        body = sandbox_body(spec, image=PAUSE_IMAGE, network=self._network, labels=self._labels)
        name = sandbox_name(spec.pod, spec.attempt)
        async with self._engine.starting:
            try:
                sandbox_id = await self._create(name, body)
            except NotFoundFailure:
                # The image went away: another cluster was taken down, or somebody tidied up.
                self._images.forget()
                await self._ensure_pause(self._architecture)
                sandbox_id = await self._create(name, body)
            try:
                await self._engine.call("start_sandbox", lambda client: client.start(sandbox_id))
            except RuntimeFailure:
                await self._remove(sandbox_id)
                raise
        return SandboxState(sandbox_id, spec.pod, spec.attempt, True, spec.ip or "", time.time(), spec.grace_seconds)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._remove(sandbox_id)

    async def run_container(self, sandbox: SandboxState, spec: ContainerSpec) -> ContainerState:
        body = container_body(spec, sandbox_id=sandbox.id, labels=self._labels)
        async with self._engine.starting:
            created_at = time.time()
            container_id = await self._create(container_name(spec), body)
            started_at = time.time()
            state = container_of_spec(spec, container_id, created_at=created_at, started_at=started_at)
            try:
                await self._engine.call("start_container", lambda client: client.start(container_id))
            except ri.RuntimeUnavailable:
                raise
            except RuntimeFailure as error:
                now = time.time()
                # 127: the command was not found, 126: it may not be executed; Docker gives both away in words.
                code = 127 if "no such file or directory" in str(error) or "not found" in str(error) else 128
                return ContainerState(
                    **{
                        **{name: getattr(state, name) for name in ContainerState.__slots__},
                        "phase": Phase.EXITED,
                        "started_at": 0.0,
                        "finished_at": now,
                        "exit_code": code,
                        "reason": "ContainerCannotRun",
                        "message": str(error),
                    }
                )
        return state

    async def _create(self, name: str, body: Mapping[str, Any]) -> str:
        """Creates under a deterministic name; a leftover of a kubelet that died half-way makes room."""

        def create(client: Any) -> str:
            return str(client.create_container_from_config(body, name)["Id"])

        try:
            return await self._engine.call("create_container", create)
        except ConflictFailure:
            await self._remove(name)
            return await self._engine.call("create_container", create)

    async def _remove(self, container: str) -> None:
        try:
            await self._engine.call(
                "remove_container", lambda client: client.remove_container(container, force=True, v=True)
            )
        except NotFoundFailure:
            return
        except ConflictFailure as error:
            # Somebody else is removing it right now.
            if "already in progress" not in str(error):
                raise

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        limits = resource_limits(resources)

        def update(client: Any) -> None:
            client.update_container(
                container_id,
                cpu_shares=limits["CpuShares"],
                cpu_period=limits.get("CpuPeriod"),
                cpu_quota=limits.get("CpuQuota"),
                mem_limit=limits.get("Memory"),
                memswap_limit=limits.get("MemorySwap"),
            )

        await self._engine.call("update_container", update)

    async def signal_container(self, container_id: str, signal: str) -> None:
        def kill(client: Any) -> None:
            name = signal
            if not name:
                config = client.inspect_container(container_id)["Config"]
                name = config.get("StopSignal") or "SIGTERM"
            client.kill(container_id, name)

        try:
            await self._engine.call("kill_container", kill)
        except (NotFoundFailure, ConflictFailure):
            return
        except RuntimeFailure as error:
            if "is not running" not in str(error):
                raise

    async def remove_container(self, container_id: str) -> None:
        await self._remove(container_id)

    async def remove_shared(self) -> None:
        """Another node of the cluster may still use the network, another cluster the sandbox image: then they stay."""
        filters = {"label": [f"{ri.LABEL_CLUSTER}={self._cluster}"]}
        others = await self._engine.call("list", lambda client: client.containers(all=True, filters=filters))
        if not others:
            await self._remove_network()
        try:
            await self._engine.call("remove_image", lambda client: client.remove_image(PAUSE_IMAGE))
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            log.debug("kept", image=PAUSE_IMAGE, reason=str(error))

    async def _remove_network(self) -> None:
        """The engine lets go of the last containers' endpoints a moment after the containers are gone."""
        for attempt in range(_RELEASE_ATTEMPTS):
            try:
                await self._engine.call("remove_network", lambda client: client.remove_network(self._network))
            except NotFoundFailure:
                return
            except RuntimeFailure as error:
                if "active endpoints" not in str(error) or attempt == _RELEASE_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_RELEASE_PAUSE_SECONDS)
            else:
                return

    async def image(self, reference: str) -> ImageState | None:
        return await self._images.image(reference)

    async def images(self) -> Sequence[ImageState]:
        return await self._images.list()

    async def pull(self, reference: str, auth: RegistryAuth | None) -> ImageState:
        return await self._images.pull(reference, auth)

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session:
        return await DockerSession.exec(self._engine, container_id, command, stdin=stdin, tty=tty)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Session:
        return await DockerSession.attach(self._engine, container_id, stdin=stdin, tty=tty)

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        return read_logs(self._engine, container_id, options)

    async def usage(self, container_ids: Sequence[str]) -> Mapping[str, Usage]:
        return await self._stats.usage(container_ids)

    async def dial(self, sandbox: SandboxState, port: int) -> tuple[str, int]:
        return sandbox.ip or "127.0.0.1", port
