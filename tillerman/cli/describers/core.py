"""`describe` of nodes, Services, ConfigMaps, Secrets, namespaces, and of any other kind."""

from typing import Any

from tillerman.api import quantity
from tillerman.api.pods import is_terminal, resource_limits, resource_requests
from tillerman.api.printers.core import node_state
from tillerman.api.printers.labels import label_text
from tillerman.cli.describers.page import NONE, Page, head, moment, resources
from tillerman.cli.session import Session
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


async def node(page: Page, obj: core.Node, session: Session) -> None:
    status = obj.status
    head(page, obj)
    page.put("CreationTimestamp", moment(obj.metadata.creationTimestamp))
    taints = [f"{t.key}={t.value}:{t.effect}" if t.value else f"{t.key}:{t.effect}" for t in obj.spec.taints]
    page.many("Taints", taints)
    page.put("Unschedulable", str(obj.spec.unschedulable).lower())
    page.put("Status", node_state(obj))
    rows = [[c.type, c.status, moment(c.lastHeartbeatTime), c.reason, c.message] for c in status.conditions]
    page.section("Conditions").table(["Type", "Status", "LastHeartbeatTime", "Reason", "Message"], rows)
    addresses = page.section("Addresses")
    for address in status.addresses:
        addresses.put(address.type, address.address)
    resources(page, "Capacity", status.capacity)
    resources(page, "Allocatable", status.allocatable)
    info = page.section("System Info")
    for label, value in (
        ("Machine ID", status.nodeInfo.machineID),
        ("Kernel Version", status.nodeInfo.kernelVersion),
        ("OS Image", status.nodeInfo.osImage),
        ("Operating System", status.nodeInfo.operatingSystem),
        ("Architecture", status.nodeInfo.architecture),
        ("Container Runtime Version", status.nodeInfo.containerRuntimeVersion),
        ("Kubelet Version", status.nodeInfo.kubeletVersion),
    ):
        info.put(label, value)
    page.put("PodCIDR", obj.spec.podCIDR or NONE)
    listed = await session.client.resource(core.Pod).list(None, field_selector=f"spec.nodeName={obj.metadata.name}")
    node_pods(page, obj, [pod for pod in listed.items if not is_terminal(pod)])


def node_pods(page: Page, obj: core.Node, pods: list[core.Pod]) -> None:
    """What runs there and what it reserves, in shares of what the node has."""
    allocatable = obj.status.allocatable
    cpu = quantity.milli_value(allocatable["cpu"]) if "cpu" in allocatable else 0
    memory = quantity.value(allocatable["memory"]) if "memory" in allocatable else 0
    totals = [0, 0, 0, 0]
    rows = []
    for pod in sorted(pods, key=lambda p: (p.metadata.namespace, p.metadata.name)):
        requests, limits = resource_requests(pod), resource_limits(pod)
        numbers = [requests.get("cpu", 0), limits.get("cpu", 0), requests.get("memory", 0), limits.get("memory", 0)]
        totals = [a + b for a, b in zip(totals, numbers, strict=True)]
        rows.append([pod.metadata.namespace, pod.metadata.name, *shares(numbers, cpu, memory)])
    section = page.section("Non-terminated Pods", f"({len(rows)} in total)")
    if rows:
        section.table(["Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits"], rows)
    shown = shares(totals, cpu, memory)
    page.section("Allocated resources").table(
        ["Resource", "Requests", "Limits"], [["cpu", shown[0], shown[1]], ["memory", shown[2], shown[3]]]
    )


def shares(numbers: list[int], cpu: int, memory: int) -> list[str]:
    """cpu requests and limits in millicores, memory requests and limits in bytes, as text with percentages."""
    texts = [f"{n}m" if n % 1000 else str(n // 1000) for n in numbers[:2]]
    texts += [quantity.format_quantity(n, "BinarySI") for n in numbers[2:]]
    whole = [cpu, cpu, memory, memory]
    return [f"{t} ({n * 100 // w if w else 0}%)" for t, n, w in zip(texts, numbers, whole, strict=True)]


async def service(page: Page, obj: core.Service, session: Session) -> None:
    spec = obj.spec
    head(page, obj)
    page.put("Selector", label_text(spec.selector))
    page.put("Type", spec.type)
    page.put("IP", spec.clusterIP or NONE)
    if spec.externalIPs:
        page.put("External IPs", ",".join(spec.externalIPs))
    if spec.externalName:
        page.put("External Name", spec.externalName)
    if obj.status.loadBalancer.ingress:
        found = ", ".join(entry.ip or entry.hostname for entry in obj.status.loadBalancer.ingress)
        page.put("LoadBalancer Ingress", found)
    listed = await session.client.resource(discovery.EndpointSlice).list(
        obj.metadata.namespace, label_selector=f"kubernetes.io/service-name={obj.metadata.name}"
    )
    for port in spec.ports:
        page.put("Port", f"{port.name or '<unset>'}  {port.port}/{port.protocol}")
        page.put("TargetPort", f"{port.targetPort.strVal or port.targetPort.intVal}/{port.protocol}")
        if port.nodePort:
            page.put("NodePort", f"{port.name or '<unset>'}  {port.nodePort}/{port.protocol}")
        page.put("Endpoints", ",".join(endpoints(listed.items, port.name)) or NONE)
    page.put("Session Affinity", spec.sessionAffinity or "None")
    if spec.externalTrafficPolicy:
        page.put("External Traffic Policy", spec.externalTrafficPolicy)


def endpoints(slices: list[discovery.EndpointSlice], port_name: str) -> list[str]:
    """address:port of every ready endpoint."""
    found = []
    for piece in slices:
        ports = [p.port for p in piece.ports if p.name == port_name]
        for endpoint in piece.endpoints:
            if not endpoint.conditions.HasField("ready") or endpoint.conditions.ready:
                found += [f"{address}:{port}" for address in endpoint.addresses for port in ports]
    return sorted(found)


async def config_map(page: Page, obj: core.ConfigMap, session: Session) -> None:
    head(page, obj)
    page.text("")
    page.text("Data")
    page.text("====")
    for key, value in sorted(obj.data.items()):
        page.text(f"{key}:")
        page.text("----")
        for line in value.splitlines() or [""]:
            page.text(line)
        page.text("")
    page.text("BinaryData")
    page.text("====")
    for key, raw in sorted(obj.binaryData.items()):
        page.text(f"{key}: {len(raw)} bytes")
    page.text("")


async def secret(page: Page, obj: core.Secret, session: Session) -> None:
    head(page, obj)
    page.put("Type", obj.type)
    page.text("")
    page.text("Data")
    page.text("====")
    for key, raw in sorted(obj.data.items()):
        page.text(f"{key}:  {len(raw)} bytes")
    page.text("")


async def namespace(page: Page, obj: core.Namespace, session: Session) -> None:
    head(page, obj)
    page.put("Status", obj.status.phase)


def generic(page: Page, data: dict[str, Any]) -> None:
    """Any object: its fields with readable labels, metadata first."""
    metadata = {k: v for k, v in (data.get("metadata") or {}).items() if k != "managedFields"}
    page.put("Name", metadata.pop("name", ""))
    if "namespace" in metadata:
        page.put("Namespace", metadata.pop("namespace"))
    for label in ("labels", "annotations"):
        values = metadata.pop(label, None) or {}
        joint = "=" if label == "labels" else ": "
        page.many(label.capitalize(), [f"{k}{joint}{v}" for k, v in sorted(values.items())])
    page.put("API Version", data.get("apiVersion", ""))
    page.put("Kind", data.get("kind", ""))
    nested(
        page, {"metadata": metadata, **{k: v for k, v in data.items() if k not in ("apiVersion", "kind", "metadata")}}
    )


def nested(page: Page, data: dict[str, Any]) -> None:
    for key, value in sorted(data.items()):
        label = readable(key)
        if isinstance(value, dict):
            nested(page.section(label), value)
        elif isinstance(value, list):
            section = page.section(label)
            for item in value:
                if isinstance(item, dict):
                    nested(section, item)
                else:
                    section.text(str(item))
        else:
            page.put(label, NONE if value is None else value)


def readable(key: str) -> str:
    """`creationTimestamp` as `Creation Timestamp`, `podCIDR` as `Pod CIDR`."""
    words, word = [], ""
    for i, letter in enumerate(key):
        if letter.isupper() and word and (not word[-1].isupper() or key[i + 1 : i + 2].islower()):
            words.append(word)
            word = ""
        word += letter
    words.append(word)
    return " ".join(w[:1].upper() + w[1:] for w in words)
