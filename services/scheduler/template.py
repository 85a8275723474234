"""What the scheduler knows of a pod: a Template, shared by all pods that schedule alike, and a small PodInfo per pod.

A Template is parsed once per distinct (namespace, labels, owner, scheduling fields of the spec); `TemplateCache.info`
interns it. So the pods of one ReplicaSet compare by identity, and everything derived from a template is computed once.
"""

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.scheduler.terms import AffinityTerm, SpreadConstraint, affinity_terms, spread_constraints
from tillerman.api.meta import controller_of
from tillerman.api.pods import resource_requests
from tillerman.pb.k8s import core_v1_pb2 as core

# What a container without a request counts for when nodes are compared (never when they are filtered).
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024

HostPort = tuple[str, str, int]
"""(protocol, host address, port); the address "0.0.0.0" stands for all."""


class Template:
    """What of a pod matters for scheduling. Compared by identity. CPU is in milli-units, the rest in units."""

    __slots__ = (
        "__weakref__",
        "affinity",
        "columns",
        "host_ports",
        "images",
        "labels",
        "namespace",
        "node_selector",
        "nonzero",
        "owner",
        "pinned_node",
        "preempts",
        "preferred_node_terms",
        "priority",
        "requests",
        "required_node_terms",
        "spread",
        "tolerations",
        "vector",
    )  # fmt: skip

    def __init__(self, pod: core.Pod, pinned_node: str = "") -> None:
        spec = pod.spec
        self.namespace: str = pod.metadata.namespace
        self.labels: Mapping[str, str] = dict(pod.metadata.labels)
        owner = controller_of(pod)
        self.owner: str = owner.uid if owner is not None else ""
        self.priority: int = spec.priority
        self.preempts: bool = spec.preemptionPolicy != "Never"
        self.pinned_node = pinned_node
        self.requests: dict[str, int] = {name: n for name, n in resource_requests(pod).items() if n or name == "pods"}
        self.requests["pods"] = 1
        self.nonzero: tuple[int, int] = _nonzero(spec, self.requests)
        self.host_ports: tuple[HostPort, ...] = tuple(_host_ports(spec))
        self.images: tuple[str, ...] = tuple(c.image for c in spec.containers)
        self.tolerations: tuple[core.Toleration, ...] = tuple(spec.tolerations)
        self.node_selector: Mapping[str, str] = dict(spec.nodeSelector)
        node_affinity = spec.affinity.nodeAffinity
        self.required_node_terms: tuple[core.NodeSelectorTerm, ...] | None = None
        if node_affinity.HasField("requiredDuringSchedulingIgnoredDuringExecution"):
            required = node_affinity.requiredDuringSchedulingIgnoredDuringExecution
            self.required_node_terms = tuple(required.nodeSelectorTerms)
        self.preferred_node_terms: tuple[tuple[int, core.NodeSelectorTerm], ...] = tuple(
            (term.weight, term.preference) for term in node_affinity.preferredDuringSchedulingIgnoredDuringExecution
        )
        self.affinity: tuple[AffinityTerm, ...] = affinity_terms(pod)
        self.spread: tuple[SpreadConstraint, ...] = spread_constraints(pod)
        # Filled in by the snapshot: the request as a vector over its resources, and which of them are asked for.
        self.vector: Any = None
        self.columns: Any = None


@dataclass(slots=True)
class PodInfo:
    """One pod. `node` is empty while it waits; `started` is epoch seconds, 0 if unknown."""

    key: str
    uid: str
    pod: core.Pod
    template: Template
    node: str = ""
    terminating: bool = False
    started: float = 0.0

    @property
    def priority(self) -> int:
        return self.template.priority

    def on(self, node: str) -> "PodInfo":
        """The same pod, assumed to be on a node."""
        return PodInfo(self.key, self.uid, self.pod, self.template, node, self.terminating, self.started)


class TemplateCache:
    """Interns templates; one lives as long as something refers to it."""

    def __init__(self) -> None:
        self._templates: weakref.WeakValueDictionary[tuple[object, ...], Template] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._templates)

    def template(self, pod: core.Pod, *, pinned: bool = False) -> Template:
        """`pinned`: spec.nodeName is a demand (a simulated pod), not yet the outcome."""
        pinned_node = pod.spec.nodeName if pinned else ""
        signature = _signature(pod, pinned_node)
        found = self._templates.get(signature)
        if found is None:
            found = self._templates[signature] = Template(pod, pinned_node)
        return found

    def info(self, pod: core.Pod, *, pinned: bool = False) -> PodInfo:
        metadata = pod.metadata
        return PodInfo(
            key=f"{metadata.namespace}/{metadata.name}",
            uid=metadata.uid,
            pod=pod,
            template=self.template(pod, pinned=pinned),
            node="" if pinned else pod.spec.nodeName,
            terminating=metadata.HasField("deletionTimestamp"),
            started=float(pod.status.startTime.seconds),
        )


def _serialized(messages: Iterable[Message]) -> tuple[bytes, ...]:
    return tuple(message.SerializeToString(deterministic=True) for message in messages)


def _containers(containers: Iterable[core.Container]) -> tuple[object, ...]:
    return tuple(
        (
            c.image,
            c.resources.SerializeToString(deterministic=True),
            c.restartPolicy,
            tuple((p.protocol, p.hostIP, p.hostPort) for p in c.ports if p.hostPort),
        )
        for c in containers
    )


def _signature(pod: core.Pod, pinned_node: str) -> tuple[object, ...]:
    """Volumes and the like are left out: they differ between pods of one owner (service account tokens) and decide
    nothing here."""
    spec, metadata = pod.spec, pod.metadata
    return (
        metadata.namespace,
        next((o.uid for o in metadata.ownerReferences if o.controller), ""),
        tuple(sorted(metadata.labels.items())),
        spec.priority,
        spec.preemptionPolicy,
        pinned_node,
        _containers(spec.containers),
        _containers(spec.initContainers) if spec.initContainers else (),
        tuple(sorted(spec.nodeSelector.items())) if spec.nodeSelector else (),
        spec.affinity.SerializeToString(deterministic=True) if spec.HasField("affinity") else b"",
        _serialized(spec.tolerations) if spec.tolerations else (),
        _serialized(spec.topologySpreadConstraints) if spec.topologySpreadConstraints else (),
        tuple(sorted((name, q.string) for name, q in spec.overhead.items())) if spec.overhead else (),
        spec.resources.SerializeToString(deterministic=True) if spec.HasField("resources") else b"",
    )


def _nonzero(spec: core.PodSpec, requests: Mapping[str, int]) -> tuple[int, int]:
    bare_cpu = sum("cpu" not in c.resources.requests for c in spec.containers)
    bare_memory = sum("memory" not in c.resources.requests for c in spec.containers)
    return (
        requests.get("cpu", 0) + DEFAULT_MILLI_CPU * bare_cpu,
        requests.get("memory", 0) + DEFAULT_MEMORY * bare_memory,
    )


def _host_ports(spec: core.PodSpec) -> Iterable[HostPort]:
    sidecars = [c for c in spec.initContainers if c.restartPolicy == "Always"]
    for container in (*spec.containers, *sidecars):
        for port in container.ports:
            if port.hostPort:
                yield (port.protocol or "TCP", port.hostIP or "0.0.0.0", port.hostPort)
