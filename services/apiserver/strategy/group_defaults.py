"""Defaults of the kinds outside the core group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tillerman.pb.k8s import admissionregistration_v1_pb2 as admissionregistration
from tillerman.pb.k8s import apiextensions_v1_pb2 as apiextensions
from tillerman.pb.k8s import apiregistration_v1_pb2 as apiregistration
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import authentication_v1_pb2 as authentication
from tillerman.pb.k8s import autoscaling_v1_pb2 as autoscaling_v1
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import discovery_v1_pb2 as discovery
from tillerman.pb.k8s import networking_v1_pb2 as networking
from tillerman.pb.k8s import rbac_v1_pb2 as rbac
from tillerman.pb.k8s import scheduling_v1_pb2 as scheduling
from tillerman.pb.k8s import storage_v1_pb2 as storage

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_RBAC_GROUP = "rbac.authorization.k8s.io"
_WEBHOOK = {
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "timeoutSeconds": 10,
}

VALUES: dict[Any, dict[str, Any]] = {
    apps.DeploymentSpec: {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    apps.DeploymentStrategy: {"type": "RollingUpdate"},
    apps.ReplicaSetSpec: {"replicas": 1},
    apps.StatefulSetSpec: {"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10},
    apps.StatefulSetUpdateStrategy: {"type": "RollingUpdate"},
    apps.StatefulSetPersistentVolumeClaimRetentionPolicy: {"whenDeleted": "Retain", "whenScaled": "Retain"},
    apps.DaemonSetSpec: {"revisionHistoryLimit": 10},
    apps.DaemonSetUpdateStrategy: {"type": "RollingUpdate"},
    batch.CronJobSpec: {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    autoscaling.HorizontalPodAutoscalerSpec: {"minReplicas": 1},
    autoscaling_v1.HorizontalPodAutoscalerSpec: {"minReplicas": 1},
    networking.NetworkPolicyPort: {"protocol": "TCP"},
    networking.IngressClassParametersReference: {"scope": "Cluster"},
    rbac.RoleRef: {"apiGroup": _RBAC_GROUP},
    storage.StorageClass: {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
    storage.CSIDriverSpec: {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
    },
    scheduling.PriorityClass: {"preemptionPolicy": "PreemptLowerPriority"},
    discovery.EndpointPort: {"name": "", "protocol": "TCP"},
    admissionregistration.ValidatingWebhook: _WEBHOOK,
    admissionregistration.MutatingWebhook: {**_WEBHOOK, "reinvocationPolicy": "Never"},
    admissionregistration.Rule: {"scope": "*"},
    admissionregistration.ServiceReference: {"port": 443},
    apiextensions.ServiceReference: {"port": 443},
    apiregistration.ServiceReference: {"port": 443},
    authentication.TokenRequestSpec: {"expirationSeconds": 3600},
}

_SCALE_UP_POLICIES = (("Pods", 4, 15), ("Percent", 100, 15))
_SCALE_DOWN_POLICIES = (("Percent", 100, 15),)


def _percent(target: Any, text: str) -> None:
    target.type, target.strVal = 1, text


def _deployment_strategy(strategy: Any) -> None:
    if strategy.type == "RollingUpdate":
        rolling = strategy.rollingUpdate
        rolling.SetInParent()
        for field in ("maxUnavailable", "maxSurge"):
            if not rolling.HasField(field):
                _percent(getattr(rolling, field), "25%")


def _stateful_set_strategy(strategy: Any) -> None:
    if strategy.type == "RollingUpdate" and not strategy.rollingUpdate.HasField("partition"):
        strategy.rollingUpdate.partition = 0


def _stateful_set_spec(spec: Any) -> None:
    spec.persistentVolumeClaimRetentionPolicy.SetInParent()


def _daemon_set(daemon_set: Any) -> None:
    """The template's own generation is always shown, so whoever writes without it is taken to have reset it."""
    if TEMPLATE_GENERATION not in daemon_set.metadata.annotations:
        daemon_set.metadata.annotations[TEMPLATE_GENERATION] = "0"


def _daemon_set_strategy(strategy: Any) -> None:
    if strategy.type == "RollingUpdate":
        rolling = strategy.rollingUpdate
        rolling.SetInParent()
        for field, value in (("maxUnavailable", 1), ("maxSurge", 0)):
            if not rolling.HasField(field):
                getattr(rolling, field).type, getattr(rolling, field).intVal = 0, value


def _job(job: Any) -> None:
    spec = job.spec
    if not spec.HasField("completions") and not spec.HasField("parallelism"):
        spec.completions = spec.parallelism = 1
    if not spec.HasField("parallelism"):
        spec.parallelism = 1
    if not spec.HasField("backoffLimit"):
        # Failures that are counted by index have their limit there.
        spec.backoffLimit = 2**31 - 1 if spec.HasField("backoffLimitPerIndex") else 6
    if not spec.HasField("completionMode"):
        spec.completionMode = "NonIndexed"
    if not spec.HasField("suspend"):
        spec.suspend = False
    if not spec.HasField("podReplacementPolicy"):
        spec.podReplacementPolicy = "Failed" if spec.HasField("podFailurePolicy") else "TerminatingOrFailed"
    for rule in spec.podFailurePolicy.rules:
        for pattern in rule.onPodConditions:
            pattern.status = pattern.status or "True"
    if not job.metadata.labels:
        job.metadata.labels.update(spec.template.metadata.labels)


def _autoscaler(spec: Any) -> None:
    if not spec.metrics:
        target = spec.metrics.add(type="Resource").resource
        target.name = "cpu"
        target.target.type = "Utilization"
        target.target.averageUtilization = 80
    if spec.HasField("behavior"):
        up, down = spec.behavior.scaleUp, spec.behavior.scaleDown
        if not up.HasField("stabilizationWindowSeconds"):
            up.stabilizationWindowSeconds = 0
        for rules, policies in ((up, _SCALE_UP_POLICIES), (down, _SCALE_DOWN_POLICIES)):
            if not rules.HasField("selectPolicy"):
                rules.selectPolicy = "Max"
            if not rules.policies:
                for kind, value, period in policies:
                    rules.policies.add(type=kind, value=value, periodSeconds=period)


def _autoscaler_v1(spec: Any) -> None:
    if not spec.HasField("targetCPUUtilizationPercentage"):
        spec.targetCPUUtilizationPercentage = 80


def _network_policy(spec: Any) -> None:
    if not spec.policyTypes:
        spec.policyTypes.extend(["Ingress", "Egress"] if spec.egress else ["Ingress"])


def _subject(subject: Any) -> None:
    if not subject.apiGroup and subject.kind in ("User", "Group"):
        subject.apiGroup = _RBAC_GROUP


def _csi_driver(spec: Any) -> None:
    if not spec.volumeLifecycleModes:
        spec.volumeLifecycleModes.append("Persistent")


def _crd_spec(spec: Any) -> None:
    if not spec.names.singular:
        spec.names.singular = spec.names.kind.lower()
    if not spec.names.listKind and spec.names.kind:
        spec.names.listKind = spec.names.kind + "List"
    if not spec.conversion.strategy:
        spec.conversion.strategy = "None"


RULES: dict[Any, Callable[[Any], None]] = {
    apps.DeploymentStrategy: _deployment_strategy,
    apps.StatefulSetUpdateStrategy: _stateful_set_strategy,
    apps.StatefulSetSpec: _stateful_set_spec,
    apps.DaemonSet: _daemon_set,
    apps.DaemonSetUpdateStrategy: _daemon_set_strategy,
    batch.Job: _job,
    autoscaling.HorizontalPodAutoscalerSpec: _autoscaler,
    autoscaling_v1.HorizontalPodAutoscalerSpec: _autoscaler_v1,
    networking.NetworkPolicySpec: _network_policy,
    rbac.Subject: _subject,
    storage.CSIDriverSpec: _csi_driver,
    apiextensions.CustomResourceDefinitionSpec: _crd_spec,
}
