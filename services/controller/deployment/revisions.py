"""Which ReplicaSet is the new one, which revision it has, and which old ones may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.controller.deployment.sizes import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    max_surge,
    new_replica_set_size,
    replicas_of,
)
from services.controller.naming import template_hash
from tillerman.api.codec import to_dict
from tillerman.api.meta import owner_reference
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
HASH_LABEL = "pod-template-hash"
# Annotations of a Deployment that its ReplicaSets do not take over.
_OWN_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)


@dataclass(frozen=True)
class ReplicaSets:
    """A Deployment's ReplicaSets, oldest first; `new` has the Deployment's template."""

    new: apps.ReplicaSet | None
    old: tuple[apps.ReplicaSet, ...]

    @property
    def all(self) -> tuple[apps.ReplicaSet, ...]:
        return (*self.old, self.new) if self.new is not None else self.old

    @property
    def active(self) -> list[apps.ReplicaSet]:
        return [replica_set for replica_set in self.all if replica_set.spec.replicas > 0]


def revision_of(obj: apps.ReplicaSet | apps.Deployment) -> int:
    text = obj.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def sort_out(deployment: apps.Deployment, replica_sets: Sequence[apps.ReplicaSet]) -> ReplicaSets:
    """The oldest ReplicaSet with the same template (but for the hash label) is the new one."""
    by_age = sorted(replica_sets, key=lambda rs: (rs.metadata.creationTimestamp.seconds, rs.metadata.name))
    new = next((rs for rs in by_age if same_template(deployment.spec.template, rs.spec.template)), None)
    return ReplicaSets(new, tuple(rs for rs in by_age if rs is not new))


def same_template(first: core.PodTemplateSpec, second: core.PodTemplateSpec) -> bool:
    """Equal but for the label pod-template-hash; unset and empty are the same, as in the JSON form."""
    one, two = without_hash(first), without_hash(second)
    return one == two or to_dict(one) == to_dict(two)


def without_hash(template: core.PodTemplateSpec) -> core.PodTemplateSpec:
    if HASH_LABEL not in template.metadata.labels:
        return template
    bare = core.PodTemplateSpec()
    bare.CopyFrom(template)
    del bare.metadata.labels[HASH_LABEL]
    return bare


def next_revision(sets: ReplicaSets) -> int:
    return max((revision_of(rs) for rs in sets.old), default=0) + 1


def new_replica_set(deployment: apps.Deployment, sets: ReplicaSets) -> apps.ReplicaSet:
    """The ReplicaSet to create for the Deployment's template, sized for what may run now."""
    digest = template_hash(without_hash(deployment.spec.template), deployment.status.collisionCount)
    replica_set = apps.ReplicaSet()
    meta = replica_set.metadata
    meta.name = f"{deployment.metadata.name}-{digest}"
    meta.namespace = deployment.metadata.namespace
    meta.labels.update(deployment.spec.template.metadata.labels)
    meta.labels[HASH_LABEL] = digest
    meta.ownerReferences.append(owner_reference(deployment))
    spec = replica_set.spec
    spec.minReadySeconds = deployment.spec.minReadySeconds
    spec.selector.CopyFrom(deployment.spec.selector)
    spec.selector.matchLabels[HASH_LABEL] = digest
    spec.template.CopyFrom(deployment.spec.template)
    spec.template.metadata.labels[HASH_LABEL] = digest
    spec.replicas = new_replica_set_size(deployment, sets.all, None)
    annotate_new(deployment, replica_set, next_revision(sets), existed=False)
    annotate_sizes(deployment, replica_set)
    return replica_set


def annotate_new(deployment: apps.Deployment, replica_set: apps.ReplicaSet, revision: int, *, existed: bool) -> bool:
    """Takes the Deployment's annotations and the revision over in place; whether that changed anything."""
    annotations = replica_set.metadata.annotations
    before = dict(annotations)
    for key, value in deployment.metadata.annotations.items():
        if key not in _OWN_ANNOTATIONS:
            annotations[key] = value
    known = revision_of(replica_set)
    if known < revision:
        annotations[REVISION] = str(revision)
        if existed and known:
            history = [past for past in annotations.get(REVISION_HISTORY, "").split(",") if past]
            annotations[REVISION_HISTORY] = ",".join([*history, str(known)])
    return dict(annotations) != before


def annotate_sizes(deployment: apps.Deployment, replica_set: apps.ReplicaSet) -> bool:
    """Notes desired and maximal size in place (proportional scaling reads them); whether that changed anything."""
    desired = replicas_of(deployment)
    noted = {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}
    annotations = replica_set.metadata.annotations
    if all(annotations.get(key) == value for key, value in noted.items()):
        return False
    annotations.update(noted)
    return True


def expired_sets(deployment: apps.Deployment, old: Sequence[apps.ReplicaSet]) -> list[apps.ReplicaSet]:
    """Old, empty ReplicaSets beyond revisionHistoryLimit, lowest revision first."""
    limit = deployment.spec.revisionHistoryLimit if deployment.spec.HasField("revisionHistoryLimit") else 10
    kept = [rs for rs in old if not rs.metadata.HasField("deletionTimestamp")]
    surplus = len(kept) - limit
    if surplus <= 0:
        return []
    oldest = sorted(kept, key=lambda rs: (revision_of(rs), rs.metadata.creationTimestamp.seconds))[:surplus]
    return [
        rs
        for rs in oldest
        if not rs.status.replicas and not rs.spec.replicas and rs.metadata.generation <= rs.status.observedGeneration
    ]
