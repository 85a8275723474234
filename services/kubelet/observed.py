"""What a pod worker knows of its pod: plain data, changed by the worker only, read by `plan` and `pod_status`."""

from dataclasses import dataclass, field

from services.kubelet.runtime.interface import ContainerState, Phase, SandboxState
from tillerman.pb.k8s import core_v1_pb2 as core

POD_INITIALIZING = "PodInitializing"
CONTAINER_CREATING = "ContainerCreating"
CRASH_LOOP = "CrashLoopBackOff"


@dataclass(slots=True)
class Trouble:
    """A step that failed: as a container's waiting reason, and when it may be tried again (epoch seconds)."""

    reason: str
    message: str
    retry_at: float
    # The delay that led to retry_at, to be doubled next time.
    delay: float = 0.0


@dataclass(slots=True)
class Rejection:
    """The pod is not run on this node, or no longer: it has failed as a whole."""

    reason: str
    message: str


@dataclass(slots=True)
class ContainerView:
    """One container of the spec: its attempts, newest first, and what probes say of the newest."""

    attempts: list[ContainerState] = field(default_factory=list)
    trouble: Trouble | None = None
    # What probes found out about the newest attempt; reset when a new one starts.
    started: bool = False
    ready: bool = False
    # The resources that the newest attempt has: the spec's, but for a resize that is still to be done.
    applied: core.ResourceRequirements | None = None
    resize_trouble: Trouble | None = None
    # Why the newest attempt has to be killed: a failed liveness or startup probe, or a failed postStart hook.
    must_die: str = ""

    @property
    def latest(self) -> ContainerState | None:
        return self.attempts[0] if self.attempts else None

    @property
    def running(self) -> bool:
        return bool(self.attempts) and self.attempts[0].phase is Phase.RUNNING

    @property
    def exited(self) -> bool:
        return bool(self.attempts) and self.attempts[0].phase is Phase.EXITED


@dataclass(slots=True)
class Observed:
    """state of everything the pod has on this node."""

    sandbox: SandboxState | None = None
    # Sandboxes that were replaced, or are left from a kubelet that died: to be removed.
    old_sandboxes: list[SandboxState] = field(default_factory=list)
    containers: dict[str, ContainerView] = field(default_factory=dict)
    # Image id by container name, once it is known to be here.
    image_ids: dict[str, str] = field(default_factory=dict)
    image_trouble: dict[str, Trouble] = field(default_factory=dict)
    volumes_ready: bool = False
    volume_trouble: Trouble | None = None
    sandbox_trouble: Trouble | None = None
    # Keys of the actions that are being carried out.
    inflight: set[str] = field(default_factory=set)
    rejection: Rejection | None = None
    # Why the node cannot give the pod's containers the resources that they are to have now.
    resize_refusal: Rejection | None = None
    # The pod is gone from the API server: only this node's leftovers remain.
    gone: bool = False
    # Everything of the pod has been removed from this node.
    torn_down: bool = False
    started_at: float = 0.0
    # The node can give pods addresses.
    network_ready: bool = True

    def view(self, name: str) -> ContainerView:
        return self.containers.setdefault(name, ContainerView())

    @property
    def next_sandbox_attempt(self) -> int:
        attempts = [sandbox.attempt for sandbox in self.old_sandboxes]
        if self.sandbox is not None:
            attempts.append(self.sandbox.attempt)
        return max(attempts, default=-1) + 1
