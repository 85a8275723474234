"""Job and CronJob."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.apps import selector_of_template
from services.apiserver.strategy.causes import (
    Cause,
    immutable,
    invalid,
    non_negative,
    not_supported,
    required,
)
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.pod_spec import pod_template
from services.apiserver.strategy.schedules import schedule
from services.apiserver.strategy.selectors import label_selector
from tillerman.api.selectors import from_message
from tillerman.api.validation import max_length
from tillerman.pb.k8s import batch_v1_pb2 as batch

CONTROLLER_UID, JOB_NAME = "controller-uid", "job-name"
_DOMAIN = "batch.kubernetes.io/"
_CRON_NAME_LIMIT = 52
_MISMATCH = "`selector` does not match template `labels`"
_RESTARTS = 'valid values: "OnFailure", "Never"'


def _create_job(job: Any) -> None:
    """Unless its user wants to choose, a Job selects exactly its own pods: by its uid."""
    spec = job.spec
    if spec.manualSelector:
        return
    mirrored = dict(job.metadata.labels) == dict(spec.template.metadata.labels)
    labels = spec.template.metadata.labels
    for prefix in ("", _DOMAIN):
        if f"{prefix}{JOB_NAME}" not in labels:
            labels[f"{prefix}{JOB_NAME}"] = job.metadata.name
        if f"{prefix}{CONTROLLER_UID}" not in labels:
            labels[f"{prefix}{CONTROLLER_UID}"] = job.metadata.uid
    selected = spec.selector.matchLabels
    if CONTROLLER_UID not in selected:
        selected[CONTROLLER_UID] = job.metadata.uid
    if mirrored:
        job.metadata.labels.update(labels)


def _validate_job(job: Any) -> list[Cause]:
    spec = job.spec
    causes = job_spec("spec", spec)
    if spec.manualSelector:
        return causes + selector_of_template("spec", spec, kind="deployment")
    # The selector must be the one that was made: whatever else selects could take another's pods.
    uid = job.metadata.uid
    labels = spec.template.metadata.labels
    if labels.get(CONTROLLER_UID) != uid:
        where = f"spec.template.metadata.labels[{CONTROLLER_UID}]"
        causes.append(invalid(where, labels.get(CONTROLLER_UID, ""), f"must be '{uid}'"))
    if labels.get(JOB_NAME) != job.metadata.name:
        where = f"spec.template.metadata.labels[{JOB_NAME}]"
        causes.append(invalid(where, labels.get(JOB_NAME, ""), f"must be '{job.metadata.name}'"))
    generated = dict(spec.selector.matchLabels) in ({CONTROLLER_UID: uid}, {_DOMAIN + CONTROLLER_UID: uid})
    if not generated or spec.selector.matchExpressions:
        causes.append(invalid("spec.selector", spec.selector, "`selector` not auto-generated"))
    return causes


def job_spec(path: str, spec: Any) -> list[Cause]:
    """A Job's spec, its selector aside."""
    causes: list[Cause] = []
    for field in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        if spec.HasField(field):
            causes += non_negative(f"{path}.{field}", getattr(spec, field))
    if spec.HasField("completionMode"):
        if spec.completionMode not in ("NonIndexed", "Indexed"):
            allowed = ["NonIndexed", "Indexed"]
            causes.append(not_supported(f"{path}.completionMode", spec.completionMode, allowed))
        elif spec.completionMode == "Indexed" and not spec.HasField("completions"):
            causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    causes += pod_template(f"{path}.template", spec.template)
    policy = spec.template.spec.restartPolicy
    if policy in ("", "Always"):
        # A template gets the policy Always by default, which says that its user chose none.
        causes.append(required(f"{path}.template.spec.restartPolicy", _RESTARTS))
    elif policy not in ("OnFailure", "Never"):
        causes.append(not_supported(f"{path}.template.spec.restartPolicy", policy, ["OnFailure", "Never"]))
    return causes


def _update_job(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    if (
        new.spec.HasField("completions") != old.spec.HasField("completions")
        or new.spec.completions != old.spec.completions
    ):
        elastic = new.spec.completionMode == "Indexed" and new.spec.completions == new.spec.parallelism
        if not elastic:
            causes.append(invalid("spec.completions", new.spec.completions, "field is immutable"))
    causes += immutable("spec.selector", new.spec.selector, old.spec.selector)
    if not (old.spec.suspend and not old.status.HasField("startTime")):
        causes += immutable("spec.template", new.spec.template, old.spec.template)
    if new.spec.HasField("completionMode"):
        causes += immutable("spec.completionMode", new.spec.completionMode, old.spec.completionMode)
    return causes


def _update_job_validated(new: Any, old: Any) -> list[Cause]:
    causes = job_spec("spec", new.spec)
    try:
        selector = from_message(new.spec.selector)
        if not selector.matches(new.spec.template.metadata.labels):
            where = "spec.template.metadata.labels"
            causes.append(invalid(where, new.spec.template.metadata.labels, _MISMATCH))
    except ValueError:
        causes += label_selector("spec.selector", new.spec.selector)
    return causes + _update_job(new, old)


def _job_status(new: Any, old: Any) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("active", "succeeded", "failed"):
        causes += non_negative(f"status.{field}", getattr(new.status, field))
    return causes


def _validate_cron_job(cron_job: Any) -> list[Cause]:
    spec = cron_job.spec
    causes: list[Cause] = []
    if not spec.schedule:
        causes.append(required("spec.schedule"))
    else:
        problem = schedule(spec.schedule)
        if problem:
            causes.append(invalid("spec.schedule", spec.schedule, problem))
    if spec.HasField("startingDeadlineSeconds"):
        causes += non_negative("spec.startingDeadlineSeconds", spec.startingDeadlineSeconds)
    policies = ("Allow", "Forbid", "Replace")
    if not spec.concurrencyPolicy:
        causes.append(required("spec.concurrencyPolicy"))
    elif spec.concurrencyPolicy not in policies:
        causes.append(not_supported("spec.concurrencyPolicy", spec.concurrencyPolicy, policies))
    causes += job_spec("spec.jobTemplate.spec", spec.jobTemplate.spec)
    if spec.jobTemplate.spec.manualSelector:
        message = 'Unsupported value: true: supported values: "nil", "false"'
        causes.append(Cause("spec.jobTemplate.spec.manualSelector", "FieldValueNotSupported", message))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if spec.HasField(field):
            causes += non_negative(f"spec.{field}", getattr(spec, field))
    if spec.HasField("timeZone"):
        causes += _time_zone("spec.timeZone", spec.timeZone)
    if len(cron_job.metadata.name) > _CRON_NAME_LIMIT:
        # Its Jobs' names are longer by eleven characters.
        causes.append(invalid("metadata.name", cron_job.metadata.name, max_length(_CRON_NAME_LIMIT)))
    return causes


def _time_zone(path: str, zone: str) -> list[Cause]:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
        ]
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid(path, zone, f"unknown time zone {zone}")]
    return []


KINDS = {
    batch.Job: Kind(
        status=True,
        create=_create_job,
        validate=_validate_job,
        validate_update=_update_job_validated,
        validate_status=_job_status,
        validate_on_update=False,
    ),
    batch.CronJob: Kind(generation=True, status=True, validate=_validate_cron_job),
}
