"""What the kubelet asks of a container runtime, and what a runtime tells of sandboxes, containers and images.

A sandbox is a pod's shared part: its network identity (and what else containers share). Ids are the runtime's own.
A runtime is driven from one event loop; every method may be called concurrently. Failures are RuntimeFailure and its
kinds, with the runtime's own words as message. Times are seconds since the epoch.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

# Labels on everything that runs, so that a restarted kubelet finds it again. The first four are Kubernetes' own.
LABEL_POD_NAME = "io.kubernetes.pod.name"
LABEL_POD_NAMESPACE = "io.kubernetes.pod.namespace"
LABEL_POD_UID = "io.kubernetes.pod.uid"
LABEL_CONTAINER_NAME = "io.kubernetes.container.name"
LABEL_CLUSTER = "tillerman.dev/cluster"
LABEL_NODE = "tillerman.dev/node"
LABEL_KIND = "tillerman.dev/kind"
LABEL_ATTEMPT = "tillerman.dev/attempt"
LABEL_SANDBOX_ATTEMPT = "tillerman.dev/sandbox-attempt"
LABEL_HASH = "tillerman.dev/container-hash"
LABEL_BACKOFF = "tillerman.dev/backoff-seconds"
LABEL_IMAGE = "tillerman.dev/image"
LABEL_POD_IP = "tillerman.dev/pod-ip"
LABEL_GRACE = "tillerman.dev/termination-grace-seconds"
LABEL_MESSAGE_PATH = "tillerman.dev/termination-message-file"


class RuntimeFailure(Exception):
    """The runtime refused or failed; str() is what it said."""


class RuntimeUnavailable(RuntimeFailure):
    """The runtime cannot be reached at the moment."""


class NotFoundFailure(RuntimeFailure):
    """No such sandbox, container or image."""


class ConflictFailure(RuntimeFailure):
    """The name is taken, or the container is in the wrong state."""


class InvalidImageName(RuntimeFailure):
    """The image reference cannot be parsed."""


@dataclass(frozen=True, slots=True)
class PodIdentity:
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    pod: PodIdentity
    attempt: int
    hostname: str
    # None with host_network.
    ip: str | None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_processes: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    # Seconds that an orphan of this pod gets between SIGTERM and SIGKILL.
    grace_seconds: int = 30
    # A directory of the pod's own on this machine.
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    source: str
    target: str
    read_only: bool = False
    # "", "HostToContainer", "Bidirectional".
    propagation: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """cpu in millicores, memory in bytes; 0 means none was given."""

    cpu_request: int = 0
    cpu_limit: int = 0
    memory_request: int = 0
    memory_limit: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    # "", "1000" or "1000:1000".
    user: str = ""
    groups: tuple[int, ...] = ()
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    # "", "RuntimeDefault", "Unconfined" or a path.
    seccomp: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    pod: PodIdentity
    name: str
    attempt: int
    sandbox_attempt: int
    image: str
    image_id: str
    # None: the image's own.
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    env: tuple[tuple[str, str], ...]
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    # (host path, path in container, permissions)
    devices: tuple[tuple[str, str, str], ...] = ()
    resources: Resources = Resources()
    security: Security = Security()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    hash: str = ""
    # How long to wait before the next start should this one end: see backoff.py.
    backoff_seconds: int = 0
    # File on this machine that holds what the container wrote as its termination message.
    message_file: str = ""
    host_pid: bool = False
    host_ipc: bool = False
    share_processes: bool = False
    # The container whose processes this one sees; empty: its own, or what the three above say.
    target_id: str = ""


class Phase(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class SandboxState:
    id: str
    pod: PodIdentity
    attempt: int
    running: bool
    ip: str
    created_at: float
    grace_seconds: int = 30


@dataclass(frozen=True, slots=True)
class ContainerState:
    id: str
    pod: PodIdentity
    name: str
    attempt: int
    sandbox_attempt: int
    phase: Phase
    image: str
    image_id: str
    hash: str
    backoff_seconds: int
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    # "Completed", "Error", "OOMKilled", "ContainerCannotRun"; empty while it runs.
    reason: str = ""
    message: str = ""
    message_file: str = ""


@dataclass(frozen=True, slots=True)
class ImageState:
    id: str
    # name:tag and name@digest
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    # The user the image asks for; "" is root.
    user: str = ""


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    username: str = ""
    password: str = ""
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    sandboxes: tuple[SandboxState, ...]
    containers: tuple[ContainerState, ...]


class EventKind(StrEnum):
    SANDBOX_EXITED = "sandbox-exited"
    CONTAINER_EXITED = "container-exited"
    CONTAINER_REMOVED = "container-removed"
    # Something was missed (the stream broke): look at the whole inventory.
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    kind: EventKind
    pod_uid: str = ""
    id: str = ""
    # For CONTAINER_EXITED.
    exit_code: int = 0
    finished_at: float = 0.0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    name: str
    version: str
    # As node.status.nodeInfo.containerRuntimeVersion spells it: "docker://20.10.24".
    version_url: str
    # Sentences for the log at start-up: what this runtime does not do.
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading. cpu_total: nanoseconds since the container started; memory: working set in bytes."""

    time: float
    cpu_total: int
    memory: int


@dataclass(frozen=True, slots=True)
class LogOptions:
    follow: bool = False
    tail_lines: int | None = None
    # Seconds since the epoch.
    since: float | None = None
    timestamps: bool = False
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    data: bytes
    stderr: bool = False


class Session(Protocol):
    """A process's streams: an exec, or an attached container."""

    def output(self) -> AsyncIterator[Output]:
        """Until the process ends or the session is closed."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def exit_code(self) -> int:
        """After the output has ended."""
        ...

    async def close(self) -> None: ...


class Runtime(Protocol):
    name: str

    async def start(self) -> RuntimeInfo:
        """Gets ready for pods: network, sandbox image. Raises RuntimeUnavailable."""
        ...

    async def close(self) -> None:
        """Lets go of connections and threads; everything that runs keeps running."""
        ...

    async def ping(self) -> None:
        """Raises RuntimeUnavailable."""
        ...

    def pod_cidr(self, node_cidr: str) -> str:
        """The addresses pods get, given the node's spec.podCIDR (which may be empty)."""
        ...

    async def inventory(self) -> Inventory:
        """Everything of this cluster and node, running or not."""
        ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Never ends; reconnects by itself and then says RESYNC."""
        ...

    async def run_sandbox(self, spec: SandboxSpec) -> SandboxState: ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Stops it first. Nothing happens when it is gone."""
        ...

    async def run_container(self, sandbox: SandboxState, spec: ContainerSpec) -> ContainerState:
        """Creates and starts. A container that could be created but not started comes back EXITED with the reason
        ContainerCannotRun (or StartError) and exit code 127 or 128."""
        ...

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        """Gives a running container other limits, without a restart."""
        ...

    async def signal_container(self, container_id: str, signal: str) -> None:
        """signal: "" is the container's own stop signal. Nothing happens when it does not run."""
        ...

    async def remove_container(self, container_id: str) -> None:
        """Kills it first. Nothing happens when it is gone."""
        ...

    async def remove_shared(self) -> None:
        """Removes what pods of the cluster share (their network) once nobody uses it; start() makes it again."""
        ...

    async def image(self, reference: str) -> ImageState | None: ...

    async def images(self) -> Sequence[ImageState]: ...

    async def pull(self, reference: str, auth: RegistryAuth | None) -> ImageState: ...

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Session: ...

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Session: ...

    def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Whole or partial lines, stdout and stderr in order."""
        ...

    async def usage(self, container_ids: Sequence[str]) -> Mapping[str, Usage]:
        """Of those that run."""
        ...

    async def dial(self, sandbox: SandboxState, port: int) -> tuple[str, int]:
        """Where a port of the pod is reached from this machine: (host, port)."""
        ...
