"""`describe pod`, and the pod template that workloads show."""

from collections.abc import Iterable
from typing import Any

from tillerman.api import times
from tillerman.api.codec import to_dict
from tillerman.api.meta import controller_of
from tillerman.api.pods import qos_class
from tillerman.api.printers.pods import state_of
from tillerman.cli.describers.page import NONE, Page, conditions, moment, pairs, resources
from tillerman.cli.session import Session
from tillerman.pb.k8s import core_v1_pb2 as core


async def pod(page: Page, obj: core.Pod, session: Session) -> None:
    spec, status = obj.spec, obj.status
    head_of_pod(page, obj)
    page.put("Status", state_of(obj))
    if status.reason:
        page.put("Reason", status.reason)
    if status.message:
        page.put("Message", status.message)
    page.put("IP", status.podIP or NONE)
    owner = controller_of(obj)
    if owner is not None:
        page.put("Controlled By", f"{owner.kind}/{owner.name}")
    if spec.initContainers:
        containers(page, "Init Containers", spec.initContainers, status.initContainerStatuses)
    containers(page, "Containers", spec.containers, status.containerStatuses)
    conditions(page, status.conditions)
    volumes(page, spec.volumes)
    page.put("QoS Class", status.qosClass or qos_class(obj))
    page.many("Node-Selectors", pairs(spec.nodeSelector))
    page.many("Tolerations", [toleration(t) for t in spec.tolerations])


def head_of_pod(page: Page, obj: core.Pod) -> None:
    spec, status = obj.spec, obj.status
    page.put("Name", obj.metadata.name)
    page.put("Namespace", obj.metadata.namespace)
    if spec.HasField("priority"):
        page.put("Priority", spec.priority)
    page.put("Service Account", spec.serviceAccountName or "default")
    page.put("Node", f"{spec.nodeName}/{status.hostIP}" if spec.nodeName else NONE)
    if status.HasField("startTime"):
        page.put("Start Time", moment(status.startTime))
    page.many("Labels", pairs(obj.metadata.labels))
    page.many("Annotations", pairs(obj.metadata.annotations, ": "))
    if obj.metadata.HasField("deletionTimestamp"):
        page.put("Termination Grace Period", f"{obj.metadata.deletionGracePeriodSeconds}s")


def containers(page: Page, label: str, specs: Iterable[core.Container], statuses: Iterable[Any]) -> None:
    section = page.section(label)
    by_name = {status.name: status for status in statuses}
    for spec in specs:
        container(section.section(spec.name), spec, by_name.get(spec.name))


def container(page: Page, spec: core.Container, status: core.ContainerStatus | None) -> None:
    if status is not None and status.containerID:
        page.put("Container ID", status.containerID)
    page.put("Image", spec.image)
    if status is not None and status.imageID:
        page.put("Image ID", status.imageID)
    ports = [f"{port.containerPort}/{port.protocol or 'TCP'}" for port in spec.ports]
    page.put("Ports" if len(ports) > 1 else "Port", ", ".join(ports) or NONE)
    if spec.command:
        page.put("Command", " ".join(spec.command))
    if spec.args:
        page.put("Args", " ".join(spec.args))
    if status is not None:
        state(page, "State", status.state)
        if status.lastState.ListFields():
            state(page, "Last State", status.lastState)
        page.put("Ready", status.ready)
        page.put("Restart Count", status.restartCount)
    resources(page, "Limits", spec.resources.limits)
    resources(page, "Requests", spec.resources.requests)
    for label, probe in (
        ("Liveness", spec.livenessProbe),
        ("Readiness", spec.readinessProbe),
        ("Startup", spec.startupProbe),
    ):
        if probe.ListFields():
            page.put(label, probe_text(probe))
    environment(page, spec)
    mounts = [f"{m.mountPath} from {m.name} ({'ro' if m.readOnly else 'rw'})" for m in spec.volumeMounts]
    lines(page, "Mounts", mounts)


def state(page: Page, label: str, found: core.ContainerState) -> None:
    if found.HasField("running"):
        page.put(label, "Running")
        page.put("  Started", moment(found.running.startedAt))
    elif found.HasField("terminated"):
        ended = found.terminated
        page.put(label, "Terminated")
        page.put("  Reason", ended.reason or NONE)
        if ended.message:
            page.put("  Message", ended.message)
        page.put("  Exit Code", ended.exitCode)
        if not times.is_zero(ended.startedAt):
            page.put("  Started", moment(ended.startedAt))
            page.put("  Finished", moment(ended.finishedAt))
    else:
        page.put(label, "Waiting")
        if found.waiting.reason:
            page.put("  Reason", found.waiting.reason)
        if found.waiting.message:
            page.put("  Message", found.waiting.message)


def probe_text(probe: core.Probe) -> str:
    if probe.handler.HasField("httpGet"):
        get = probe.handler.httpGet
        port = get.port.strVal or get.port.intVal
        what = f"http-get {(get.scheme or 'HTTP').lower()}://{get.host}:{port}{get.path or '/'}"
    elif probe.handler.HasField("tcpSocket"):
        socket = probe.handler.tcpSocket
        what = f"tcp-socket {socket.host}:{socket.port.strVal or socket.port.intVal}"
    elif probe.handler.HasField("grpc"):
        what = f"grpc <pod>:{probe.handler.grpc.port} {probe.handler.grpc.service}".rstrip()
    else:
        what = f"exec [{' '.join(probe.handler.exec.command)}]"
    return (
        f"{what} delay={probe.initialDelaySeconds}s timeout={probe.timeoutSeconds}s period={probe.periodSeconds}s "
        f"#success={probe.successThreshold} #failure={probe.failureThreshold}"
    )


def environment(page: Page, spec: core.Container) -> None:
    found = []
    for entry in spec.envFrom:
        source = entry.configMapRef if entry.HasField("configMapRef") else entry.secretRef
        kind = "ConfigMap" if entry.HasField("configMapRef") else "Secret"
        prefix = f" with prefix '{entry.prefix}'" if entry.prefix else ""
        found.append(f"(all of {kind} {source.localObjectReference.name}{prefix})")
    found += [f"{variable.name}: {variable_text(variable)}" for variable in spec.env]
    lines(page, "Environment", found)


def variable_text(variable: core.EnvVar) -> str:
    source = variable.valueFrom
    if source.HasField("configMapKeyRef"):
        ref = source.configMapKeyRef
        return f"<set to the key '{ref.key}' of config map '{ref.localObjectReference.name}'>"
    if source.HasField("secretKeyRef"):
        key = source.secretKeyRef
        return f"<set to the key '{key.key}' in secret '{key.localObjectReference.name}'>"
    if source.HasField("fieldRef"):
        return f"({source.fieldRef.apiVersion or 'v1'}:{source.fieldRef.fieldPath})"
    if source.HasField("resourceFieldRef"):
        return f"({source.resourceFieldRef.resource})"
    return variable.value


def lines(page: Page, label: str, values: list[str]) -> None:
    if not values:
        page.put(label, NONE)
        return
    section = page.section(label)
    for value in values:
        section.text(value)


def volumes(page: Page, found: Iterable[core.Volume]) -> None:
    listed = list(found)
    if not listed:
        page.put("Volumes", NONE)
        return
    section = page.section("Volumes")
    for volume in listed:
        inner = section.section(volume.name)
        for kind, source in to_dict(volume).items():
            if kind != "name":
                inner.put("Type", kind[0].upper() + kind[1:])
                for key, value in (source or {}).items():
                    inner.put(key[0].upper() + key[1:], value)


def toleration(found: core.Toleration) -> str:
    text = found.key or "any taint"
    if found.value:
        text += f"={found.value}"
    if found.effect:
        text += f":{found.effect}"
    if found.operator == "Exists":
        text += " op=Exists"
    return text + (f" for {found.tolerationSeconds}s" if found.HasField("tolerationSeconds") else "")


def template(page: Page, found: core.PodTemplateSpec) -> None:
    """The Pod Template section of a workload."""
    section = page.section("Pod Template")
    section.many("Labels", pairs(found.metadata.labels))
    if found.metadata.annotations:
        section.many("Annotations", pairs(found.metadata.annotations, ": "))
    if found.spec.serviceAccountName:
        section.put("Service Account", found.spec.serviceAccountName)
    if found.spec.initContainers:
        containers(section, "Init Containers", found.spec.initContainers, ())
    containers(section, "Containers", found.spec.containers, ())
    volumes(section, found.spec.volumes)
