"""Policy and cluster administration: budgets, bindings, leases, classes, certificates, webhooks."""

from typing import Any

from tillerman.api.printers.ages import age


def _int_or_string(value: Any) -> str:
    return value.strVal if value.type == 1 else str(value.intVal)


def pod_disruption_budget(obj: Any, now: float) -> list[Any]:
    spec = obj.spec
    return [
        obj.metadata.name,
        _int_or_string(spec.minAvailable) if spec.HasField("minAvailable") else "N/A",
        _int_or_string(spec.maxUnavailable) if spec.HasField("maxUnavailable") else "N/A",
        obj.status.disruptionsAllowed,
        age(obj.metadata.creationTimestamp, now),
    ]


def binding(obj: Any, now: float) -> list[Any]:
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.subjects:
        name = f"{subject.namespace}/{subject.name}" if subject.kind == "ServiceAccount" else subject.name
        subjects.setdefault(subject.kind, []).append(name)
    return [
        obj.metadata.name,
        f"{obj.roleRef.kind}/{obj.roleRef.name}",
        age(obj.metadata.creationTimestamp, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def lease(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, obj.spec.holderIdentity, age(obj.metadata.creationTimestamp, now)]


def runtime_class(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, obj.handler, age(obj.metadata.creationTimestamp, now)]


def priority_class(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, obj.value, obj.globalDefault, age(obj.metadata.creationTimestamp, now)]


def certificate_signing_request(obj: Any, now: float) -> list[Any]:
    types = [c.type for c in obj.status.conditions]
    words = [word for word in ("Approved", "Denied", "Failed") if word in types]
    if obj.status.certificate:
        words.append("Issued")
    return [
        obj.metadata.name,
        age(obj.metadata.creationTimestamp, now),
        obj.spec.signerName,
        obj.spec.username,
        ",".join(words) or "Pending",
    ]


def webhook_configuration(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, len(obj.Webhooks), age(obj.metadata.creationTimestamp, now)]


PRINTERS = {
    "PodDisruptionBudget": pod_disruption_budget,
    "RoleBinding": binding,
    "ClusterRoleBinding": binding,
    "Lease": lease,
    "RuntimeClass": runtime_class,
    "PriorityClass": priority_class,
    "CertificateSigningRequest": certificate_signing_request,
    "MutatingWebhookConfiguration": webhook_configuration,
    "ValidatingWebhookConfiguration": webhook_configuration,
}
