"""The StatefulSet controller's decisions: the next step towards the wanted pods, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.controller.deployment.sizes import scaled_value
from services.controller.history import REVISION_LABEL
from services.controller.replicaset.plan import is_available
from tillerman.api.meta import owner_reference
from tillerman.api.pods import is_ready
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"(.*)-(\d+)")


@dataclass
class StatefulPlan:
    """`create` are ordinals with the revision each gets: (ordinal, new revision?)."""

    create: list[tuple[int, bool]] = field(default_factory=list)
    delete: list[core.Pod] = field(default_factory=list)


def ordinal_of(pod: core.Pod, name: str) -> int:
    """The pod's number in the set; -1 when its name is none of the set's."""
    match = _ORDINAL.fullmatch(pod.metadata.name)
    return int(match[2]) if match and match[1] == name else -1


def ordinals(stateful: apps.StatefulSet) -> range:
    replicas = stateful.spec.replicas if stateful.spec.HasField("replicas") else 1
    first = stateful.spec.ordinals.start
    return range(first, first + replicas)


def partition_of(stateful: apps.StatefulSet) -> int:
    """Pods from this ordinal on get the new revision."""
    return stateful.spec.updateStrategy.rollingUpdate.partition


def plan_stateful(stateful: apps.StatefulSet, pods: Sequence[core.Pod], new_digest: str, now: float) -> StatefulPlan:
    """The next step. With OrderedReady one pod at a time, and only when all before it are available."""
    plan = StatefulPlan()
    wanted = ordinals(stateful)
    parallel = stateful.spec.podManagementPolicy == "Parallel"
    present = {number: pod for pod in pods if (number := ordinal_of(pod, stateful.metadata.name)) >= 0}
    min_ready = stateful.spec.minReadySeconds
    for number in wanted:
        pod = present.get(number)
        if pod is None:
            plan.create.append((number, number >= partition_of(stateful)))
        elif pod.metadata.HasField("deletionTimestamp"):
            pass
        elif pod.status.phase in ("Failed", "Succeeded"):
            plan.delete.append(pod)
        elif is_available(pod, min_ready, now):
            continue
        if not parallel:
            # Everything after this one waits.
            return plan
    surplus = sorted((n for n in present if n not in wanted), reverse=True)
    if surplus:
        if parallel:
            plan.delete += [present[n] for n in surplus if not present[n].metadata.HasField("deletionTimestamp")]
        else:
            last = present[surplus[0]]
            if not last.metadata.HasField("deletionTimestamp"):
                plan.delete.append(last)
            return plan
    if not plan.create and not plan.delete and stateful.spec.updateStrategy.type != "OnDelete":
        plan.delete += _outdated(stateful, present, new_digest, now)
    return plan


def _outdated(stateful: apps.StatefulSet, present: dict[int, core.Pod], digest: str, now: float) -> list[core.Pod]:
    """Old pods to replace now, from the highest ordinal down, as many as may be unavailable."""
    rolling = stateful.spec.updateStrategy.rollingUpdate
    replicas = len(ordinals(stateful))
    room = scaled_value(rolling.maxUnavailable, replicas, round_up=True) if rolling.HasField("maxUnavailable") else 1
    room = max(room, 1)
    result: list[core.Pod] = []
    unavailable = 0
    for number in sorted((n for n in present if n in ordinals(stateful)), reverse=True):
        pod = present[number]
        available = is_available(pod, stateful.spec.minReadySeconds, now)
        leaving = pod.metadata.HasField("deletionTimestamp")
        if leaving or not available:
            unavailable += 1
        if number >= partition_of(stateful) and pod.metadata.labels.get(REVISION_LABEL) != digest and not leaving:
            if not available:
                result.append(pod)
            elif unavailable < room:
                result.append(pod)
                unavailable += 1
        if unavailable >= room:
            break
    return result


def make_pod(stateful: apps.StatefulSet, number: int, template: core.PodTemplateSpec, digest: str) -> core.Pod:
    """Pod `number` with its stable identity and claims."""
    pod = core.Pod()
    pod.metadata.labels.update(template.metadata.labels)
    pod.metadata.annotations.update(template.metadata.annotations)
    pod.metadata.generateName = f"{stateful.metadata.name}-"
    pod.metadata.name = f"{pod.metadata.generateName}{number}"
    pod.metadata.namespace = stateful.metadata.namespace
    pod.metadata.labels[POD_NAME] = pod.metadata.name
    pod.metadata.labels[POD_INDEX] = str(number)
    pod.metadata.labels[REVISION_LABEL] = digest
    pod.metadata.ownerReferences.append(owner_reference(stateful))
    pod.spec.CopyFrom(template.spec)
    pod.spec.hostname = pod.metadata.name
    pod.spec.subdomain = stateful.spec.serviceName
    claims = {claim.metadata.name for claim in stateful.spec.volumeClaimTemplates}
    kept = [volume for volume in pod.spec.volumes if volume.name not in claims]
    del pod.spec.volumes[:]
    pod.spec.volumes.extend(kept)
    for claim in stateful.spec.volumeClaimTemplates:
        volume = pod.spec.volumes.add(name=claim.metadata.name)
        volume.volumeSource.persistentVolumeClaim.claimName = claim_name(stateful, claim, number)
    return pod


def claim_name(stateful: apps.StatefulSet, claim: core.PersistentVolumeClaim, number: int) -> str:
    return f"{claim.metadata.name}-{stateful.metadata.name}-{number}"


def make_claims(stateful: apps.StatefulSet, number: int) -> list[core.PersistentVolumeClaim]:
    result: list[core.PersistentVolumeClaim] = []
    for template in stateful.spec.volumeClaimTemplates:
        claim = core.PersistentVolumeClaim()
        claim.CopyFrom(template)
        claim.ClearField("status")
        claim.metadata.name = claim_name(stateful, template, number)
        claim.metadata.namespace = stateful.metadata.namespace
        claim.metadata.labels.update(stateful.spec.selector.matchLabels)
        result.append(claim)
    return result


def plan_status(
    stateful: apps.StatefulSet, pods: Sequence[core.Pod], old: tuple[str, str], new: tuple[str, str], now: float
) -> apps.StatefulSetStatus:
    """`old` and `new` are (name, digest) of the revisions."""
    status = apps.StatefulSetStatus()
    status.CopyFrom(stateful.status)
    alive = [pod for pod in pods if not pod.metadata.HasField("deletionTimestamp")]
    status.replicas = len(pods)
    status.readyReplicas = sum(1 for pod in alive if is_ready(pod))
    status.availableReplicas = sum(1 for pod in alive if is_available(pod, stateful.spec.minReadySeconds, now))
    digests = [pod.metadata.labels.get(REVISION_LABEL) for pod in alive]
    status.updatedReplicas = digests.count(new[1])
    status.currentReplicas = digests.count(old[1])
    status.currentRevision, status.updateRevision = old[0], new[0]
    status.observedGeneration = stateful.metadata.generation
    complete = status.updatedReplicas == status.replicas == status.readyReplicas == len(ordinals(stateful))
    if complete and partition_of(stateful) == 0:
        status.currentRevision, status.currentReplicas = new[0], status.updatedReplicas
    return status
