"""`describe` of Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and HorizontalPodAutoscalers."""

from collections.abc import Iterable
from typing import Any

from tillerman.api.meta import is_controlled_by
from tillerman.api.printers.autoscaling import targets
from tillerman.api.printers.labels import selector_text
from tillerman.api.selectors import from_message
from tillerman.cli.describers.page import NONE, Page, conditions, head, labels, moment, pod_counts
from tillerman.cli.describers.pods import template
from tillerman.cli.session import Session
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core

REVISION = "deployment.kubernetes.io/revision"


async def selected_pods(session: Session, obj: Any) -> list[core.Pod]:
    text = str(from_message(obj.spec.selector))
    if not text:
        return []
    pods = await session.client.resource(core.Pod).list(obj.metadata.namespace, label_selector=text)
    return [pod for pod in pods.items if is_controlled_by(pod, obj)]


def int_or_string(value: Any) -> str:
    return value.strVal if value.type == 1 else str(value.intVal)


async def deployment(page: Page, obj: apps.Deployment, session: Session) -> None:
    spec, status = obj.spec, obj.status
    page.put("Name", obj.metadata.name)
    page.put("Namespace", obj.metadata.namespace)
    page.put("CreationTimestamp", moment(obj.metadata.creationTimestamp))
    labels(page, obj)
    page.put("Selector", selector_text(spec.selector))
    page.put(
        "Replicas",
        f"{spec.replicas} desired | {status.updatedReplicas} updated | {status.replicas} total | "
        f"{status.availableReplicas} available | {status.unavailableReplicas} unavailable",
    )
    page.put("StrategyType", spec.strategy.type)
    page.put("MinReadySeconds", spec.minReadySeconds)
    if spec.strategy.HasField("rollingUpdate"):
        rolling = spec.strategy.rollingUpdate
        page.put(
            "RollingUpdateStrategy",
            f"{int_or_string(rolling.maxUnavailable)} max unavailable, {int_or_string(rolling.maxSurge)} max surge",
        )
    if spec.paused:
        page.put("Paused", "true")
    template(page, spec.template)
    conditions(page, status.conditions)
    old, new = await replica_sets(session, obj)
    page.put("OldReplicaSets", ", ".join(map(created, old)) or NONE)
    page.put("NewReplicaSet", created(new) if new else NONE)


def created(found: apps.ReplicaSet) -> str:
    return f"{found.metadata.name} ({found.status.replicas}/{found.spec.replicas} replicas created)"


async def replica_sets(session: Session, obj: apps.Deployment) -> tuple[list[apps.ReplicaSet], apps.ReplicaSet | None]:
    """(old ones that still have pods, the one of the present revision)."""
    listed = await session.client.resource(apps.ReplicaSet).list(
        obj.metadata.namespace, label_selector=str(from_message(obj.spec.selector))
    )
    own = [r for r in listed.items if is_controlled_by(r, obj)]
    revision = obj.metadata.annotations.get(REVISION, "")
    new = next((r for r in own if r.metadata.annotations.get(REVISION, "") == revision), None)
    return [r for r in own if r is not new and (r.spec.replicas or r.status.replicas)], new


async def replica_set(page: Page, obj: Any, session: Session) -> None:
    head(page, obj)
    page.put("Selector", selector_text(obj.spec.selector))
    for owner in obj.metadata.ownerReferences:
        if owner.controller:
            page.put("Controlled By", f"{owner.kind}/{owner.name}")
    page.put("Replicas", f"{obj.status.replicas} current / {obj.spec.replicas} desired")
    page.put("Pods Status", pod_counts(await selected_pods(session, obj)))
    template(page, obj.spec.template)
    conditions(page, obj.status.conditions)


async def stateful_set(page: Page, obj: apps.StatefulSet, session: Session) -> None:
    await replica_set(page, obj, session)
    page.put("Update Strategy", obj.spec.updateStrategy.type)
    page.put("Service Name", obj.spec.serviceName)


async def daemon_set(page: Page, obj: apps.DaemonSet, session: Session) -> None:
    status = obj.status
    head(page, obj)
    page.put("Selector", selector_text(obj.spec.selector))
    for label, value in (
        ("Desired Number of Nodes Scheduled", status.desiredNumberScheduled),
        ("Current Number of Nodes Scheduled", status.currentNumberScheduled),
        ("Number of Nodes Scheduled with Up-to-date Pods", status.updatedNumberScheduled),
        ("Number of Nodes Scheduled with Available Pods", status.numberAvailable),
        ("Number of Nodes Misscheduled", status.numberMisscheduled),
    ):
        page.put(label, value)
    page.put("Pods Status", pod_counts(await selected_pods(session, obj)))
    template(page, obj.spec.template)


async def job(page: Page, obj: Any, session: Session) -> None:
    spec, status = obj.spec, obj.status
    head(page, obj)
    page.put("Selector", selector_text(spec.selector))
    page.put("Parallelism", spec.parallelism)
    page.put("Completions", spec.completions if spec.HasField("completions") else "<unset>")
    if status.HasField("startTime"):
        page.put("Start Time", moment(status.startTime))
    if status.HasField("completionTime"):
        page.put("Completed At", moment(status.completionTime))
    page.put("Pods Statuses", f"{status.active} Active / {status.succeeded} Succeeded / {status.failed} Failed")
    template(page, spec.template)
    conditions(page, status.conditions)


async def horizontal_pod_autoscaler(page: Page, obj: Any, session: Session) -> None:
    spec, status = obj.spec, obj.status
    head(page, obj)
    page.put("CreationTimestamp", moment(obj.metadata.creationTimestamp))
    page.put("Reference", f"{spec.scaleTargetRef.kind}/{spec.scaleTargetRef.name}")
    page.section("Metrics", "( current / target )").text(targets(obj))
    page.put("Min replicas", spec.minReplicas if spec.HasField("minReplicas") else "<unset>")
    page.put("Max replicas", spec.maxReplicas)
    if spec.HasField("behavior"):
        section = page.section("Behavior")
        for label, rules in (("Scale Up", spec.behavior.scaleUp), ("Scale Down", spec.behavior.scaleDown)):
            scaling_rules(section.section(label), rules)
    page.put(f"{spec.scaleTargetRef.kind} pods", f"{status.currentReplicas} current / {status.desiredReplicas} desired")
    full_conditions(page, status.conditions)


def scaling_rules(page: Page, rules: Any) -> None:
    if rules.HasField("stabilizationWindowSeconds"):
        page.put("Stabilization Window", f"{rules.stabilizationWindowSeconds} seconds")
    page.put("Select Policy", rules.selectPolicy or "Max")
    policies = page.section("Policies")
    for policy in rules.policies:
        policies.text(f"- Type: {policy.type}  Value: {policy.value}  Period: {policy.periodSeconds} seconds")


def full_conditions(page: Page, found: Iterable[Any]) -> None:
    rows = [[c.type, c.status, c.reason, c.message] for c in found]
    if rows:
        page.section("Conditions").table(["Type", "Status", "Reason", "Message"], rows)
