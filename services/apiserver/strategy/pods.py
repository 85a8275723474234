"""Pod and PodTemplate: what a write may set, and what its status and its subresources may be."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.causes import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    invalid_all,
    plain,
    qualified_name,
)
from services.apiserver.strategy.containers import ephemeral_containers, padded_image
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.names import dns_subdomain
from services.apiserver.strategy.pod_annotations import pod_annotation_changes, pod_annotations, seccomp_twice
from services.apiserver.strategy.pod_spec import pod_spec, pod_template
from services.apiserver.strategy.pod_updates import pod_changes
from services.apiserver.strategy.ports import parse_ip
from services.apiserver.strategy.resources import requirements
from tillerman.api.pods import qos_class
from tillerman.api.status import internal_cause
from tillerman.pb.k8s import core_v1_pb2 as core

_BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def _create(pod: Any) -> None:
    # Debugging containers come only to a pod that runs, through their own subresource.
    pod.spec.ClearField("ephemeralContainers")
    pod.status.phase = "Pending"
    pod.status.qosClass = qos_class(pod)


def _update_status(new: Any, old: Any) -> None:
    """A status write may label and annotate, not adopt."""
    del new.metadata.ownerReferences[:]
    new.metadata.ownerReferences.extend(old.metadata.ownerReferences)
    if not new.status.qosClass:
        new.status.qosClass = old.status.qosClass


def _validate(pod: Any) -> list[Cause]:
    annotations = pod.metadata.annotations
    causes = pod_annotations("metadata.annotations", annotations, pod.spec) if annotations else []
    causes += pod_spec("spec", pod.spec)
    if pod.spec.nodeName and pod.spec.schedulingGates:
        detail = "cannot be set until all schedulingGates have been cleared"
        causes.append(forbidden("spec.nodeName", detail))
    if not pod.spec.serviceAccountName:
        for index, volume in enumerate(pod.spec.volumes):
            for position, source in enumerate(volume.volumeSource.projected.sources):
                if source.HasField("serviceAccountToken"):
                    path = f"spec.volumes[{index}].projected.sources[{position}].serviceAccountToken"
                    causes.append(forbidden(path, "must not be specified when serviceAccountName is not set"))
    for field in ("containers", "initContainers"):
        for index, container in enumerate(getattr(pod.spec, field)):
            causes += padded_image(f"spec.{field}[{index}].image", container.image)
    return causes + seccomp_twice("spec", pod)


def _validate_status(new: Any, old: Any) -> list[Cause]:
    status = new.status
    annotations, before = new.metadata.annotations, old.metadata.annotations
    causes = pod_annotation_changes("metadata.annotations", annotations, before)
    causes += pod_annotations("metadata.annotations", annotations, new.spec)
    for index, condition in enumerate(status.conditions):
        # Kubernetes itself spells this path so.
        causes += invalid_all(f"metadata.conditions[{index}].Type", condition.type, qualified_name(condition.type))
    name = status.nominatedNodeName
    if name and name != old.status.nominatedNodeName:
        causes += invalid_all("status.nominatedNodeName", name, dns_subdomain(name))
    for field in ("containerStatuses", "initContainerStatuses"):
        after, before = getattr(status, field), getattr(old.status, field)
        causes += _container_statuses(f"status.{field}", after, before, old.spec)
    return causes + _addresses("status.podIPs", status.podIPs) + _host_addresses("status.hostIPs", status)


def _addresses(path: str, entries: Any) -> list[Cause]:
    """One address of each family at most."""
    parsed = [parse_ip(entry.ip) for entry in entries]
    causes = [invalid(f"{path}[{i}]", entries[i].ip, _BAD_IP) for i, address in enumerate(parsed) if address is None]
    if len(entries) < 2:
        return causes
    if None in parsed:
        bad = next(entry.ip for entry, address in zip(entries, parsed, strict=True) if address is None)
        detail = f"failed to check for dual stack with error:ipAddr {bad} is invalid"
        causes.append(internal_cause(path, detail))
    if len(parsed) > 2 or {getattr(address, "version", 0) for address in parsed} != {4, 6}:
        causes.append(invalid(path, entries, "may specify no more than one IP for each IP family"))
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.ip in seen:
            causes.append(duplicate(f"{path}[{index}]", plain(entry)))
        seen.add(entry.ip)
    return causes


def _host_addresses(path: str, status: Any) -> list[Cause]:
    if not status.hostIPs:
        return []
    first = status.hostIPs[0].ip
    causes = [] if first == status.hostIP else [invalid(f"{path}[0].ip", first, "must be equal to `hostIP`")]
    return causes + _addresses(path, status.hostIPs)


def _container_statuses(path: str, statuses: Any, known: Any, spec: Any) -> list[Cause]:
    """Under a policy that does not restart, a container that has ended stays so; but for sidecars."""
    restart_policy = spec.restartPolicy
    if restart_policy == "Always":
        return []
    sidecars = {container.name for container in spec.initContainers if container.restartPolicy == "Always"}
    now = {status.name: status for status in statuses if status.name not in sidecars}
    causes: list[Cause] = []
    for index, before in enumerate(known):
        after = now.get(before.name)
        if after is None or not before.state.HasField("terminated"):
            continue
        failed_may_restart = restart_policy == "OnFailure" and before.state.terminated.exitCode != 0
        if not failed_may_restart and not after.state.HasField("terminated"):
            causes.append(forbidden(f"{path}[{index}].state", "may not be transitioned to non-terminated state"))
    return causes


def _validate_ephemeral_containers(new: Any, old: Any) -> list[Cause]:
    """An update through pods/ephemeralcontainers: what is there stays, more may come."""
    volumes = {volume.name: volume for volume in new.spec.volumes}
    causes = ephemeral_containers("spec.ephemeralContainers", new.spec, volumes)
    before = {c.ephemeralContainerCommon.name: c for c in old.spec.ephemeralContainers}
    after = {c.ephemeralContainerCommon.name: c for c in new.spec.ephemeralContainers}
    for name, container in before.items():
        if name not in after:
            detail = f"existing ephemeral containers {name!r} may not be removed".replace("'", '"')
            causes.append(forbidden("spec.ephemeralContainers", detail))
        elif not semantically_equal(container, after[name]):
            detail = f"existing ephemeral containers {name!r} may not be changed".replace("'", '"')
            causes.append(forbidden("spec.ephemeralContainers", detail))
    return causes


def _validate_resize(new: Any, old: Any) -> list[Cause]:
    """An update through pods/resize: only containers' cpu and memory."""
    causes: list[Cause] = []
    masked = core.PodSpec()
    masked.CopyFrom(new.spec)
    for index, container in enumerate(new.spec.containers):
        causes += requirements(f"spec.containers[{index}].resources", container.resources)
        if index < len(old.spec.containers):
            masked.containers[index].resources.CopyFrom(old.spec.containers[index].resources)
            masked.containers[index].ClearField("resizePolicy")
            masked.containers[index].resizePolicy.extend(old.spec.containers[index].resizePolicy)
    if not semantically_equal(masked, old.spec):
        causes.append(forbidden("spec", "only cpu and memory resources are mutable"))
    if new.status.qosClass and qos_class(new) != old.status.qosClass:
        detail = "Pod QOS Class may not change as a result of resizing"
        causes.append(invalid("spec", old.status.qosClass, detail))
    return causes


def _validate_template(template: Any) -> list[Cause]:
    return pod_template("template", template.template)


KINDS = {
    core.Pod: Kind(
        status=True,
        alike=True,
        create=_create,
        update_status=_update_status,
        validate=_validate,
        validate_update=pod_changes,
        validate_status=_validate_status,
        through={"ephemeralcontainers": _validate_ephemeral_containers, "resize": _validate_resize},
    ),
    core.PodTemplate: Kind(generation=False, create_on_update=False, validate=_validate_template),
}
