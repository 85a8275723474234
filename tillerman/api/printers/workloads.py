"""Workloads: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs."""

from typing import Any

from tillerman.api import times
from tillerman.api.meta import controller_of, get_condition
from tillerman.api.printers.ages import age, human_duration
from tillerman.api.printers.labels import NONE, container_images, container_names, label_text, selector_text


def _template(obj: Any) -> list[Any]:
    containers = obj.spec.template.spec.containers
    return [container_names(containers), container_images(containers)]


def pod_template(obj: Any, now: float) -> list[Any]:
    containers = obj.template.spec.containers
    labels = label_text(obj.template.metadata.labels)
    return [obj.metadata.name, container_names(containers), container_images(containers), labels]


def deployment(obj: Any, now: float) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        f"{status.readyReplicas}/{obj.spec.replicas}",
        status.updatedReplicas,
        status.availableReplicas,
        age(obj.metadata.creationTimestamp, now),
        *_template(obj),
        selector_text(obj.spec.selector),
    ]


def replica_set(obj: Any, now: float) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        obj.spec.replicas,
        status.replicas,
        status.readyReplicas,
        age(obj.metadata.creationTimestamp, now),
        *_template(obj),
        selector_text(obj.spec.selector),
    ]


def stateful_set(obj: Any, now: float) -> list[Any]:
    ready = f"{obj.status.readyReplicas}/{obj.spec.replicas}"
    return [obj.metadata.name, ready, age(obj.metadata.creationTimestamp, now), *_template(obj)]


def daemon_set(obj: Any, now: float) -> list[Any]:
    status = obj.status
    return [
        obj.metadata.name,
        status.desiredNumberScheduled,
        status.currentNumberScheduled,
        status.numberReady,
        status.updatedNumberScheduled,
        status.numberAvailable,
        label_text(obj.spec.template.spec.nodeSelector),
        age(obj.metadata.creationTimestamp, now),
        *_template(obj),
        selector_text(obj.spec.selector),
    ]


def controller_revision(obj: Any, now: float) -> list[Any]:
    owner = controller_of(obj)
    shown = NONE
    if owner is not None:
        group = owner.apiVersion.rpartition("/")[0]
        shown = f"{owner.kind.lower()}.{group}/{owner.name}" if group else f"{owner.kind.lower()}/{owner.name}"
    return [obj.metadata.name, shown, obj.revision, age(obj.metadata.creationTimestamp, now)]


def _is(obj: Any, condition: str) -> bool:
    found = get_condition(obj.status.conditions, condition)
    return found is not None and found.status == "True"


def _job_state(obj: Any) -> str:
    for condition, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if _is(obj, condition):
            return word
    if obj.metadata.HasField("deletionTimestamp"):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if _is(obj, condition):
            return condition
    return "Running"


def job(obj: Any, now: float) -> list[Any]:
    spec, status = obj.spec, obj.status
    if spec.HasField("completions"):
        completions = f"{status.succeeded}/{spec.completions}"
    elif spec.parallelism > 1:
        completions = f"{status.succeeded}/1 of {spec.parallelism}"
    else:
        completions = f"{status.succeeded}/1"
    duration = ""
    if status.HasField("startTime"):
        end = times.to_seconds(status.completionTime) if status.HasField("completionTime") else now
        duration = human_duration(end - times.to_seconds(status.startTime))
    return [
        obj.metadata.name,
        _job_state(obj),
        completions,
        duration,
        age(obj.metadata.creationTimestamp, now),
        *_template(obj),
        selector_text(spec.selector),
    ]


def cron_job(obj: Any, now: float) -> list[Any]:
    containers = obj.spec.jobTemplate.spec.template.spec.containers
    last = age(obj.status.lastScheduleTime, now) if obj.status.HasField("lastScheduleTime") else NONE
    return [
        obj.metadata.name,
        obj.spec.schedule,
        str(obj.spec.suspend),
        len(obj.status.active),
        last,
        age(obj.metadata.creationTimestamp, now),
        container_names(containers),
        container_images(containers),
        selector_text(obj.spec.jobTemplate.spec.selector),
    ]


PRINTERS = {
    "PodTemplate": pod_template,
    "Deployment": deployment,
    "ReplicaSet": replica_set,
    "StatefulSet": stateful_set,
    "DaemonSet": daemon_set,
    "ControllerRevision": controller_revision,
    "Job": job,
    "CronJob": cron_job,
}
