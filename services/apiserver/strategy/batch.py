"""Job and CronJob."""

from __future__ import annotations

from typing import Any

from services.apiserver.strategy.apps import unselected
from services.apiserver.strategy.causes import (
    IMMUTABLE,
    Cause,
    domain_prefixed,
    immutable,
    invalid,
    non_negative,
    not_supported,
    required,
    too_long,
)
from services.apiserver.strategy.job_policies import failure_policy, index_limits, replacement_policy, success_policy
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.masking import take_field, take_node_affinity
from services.apiserver.strategy.pod_spec import pod_template
from services.apiserver.strategy.schedules import schedule
from services.apiserver.strategy.selectors import label_selector
from tillerman.api.selectors import from_message
from tillerman.api.validation import max_length
from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

CONTROLLER_UID, JOB_NAME = "controller-uid", "job-name"
_DOMAIN = "batch.kubernetes.io/"
_CRON_NAME_LIMIT = 52
_MANAGED_BY_LIMIT = 63
_FIXED = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
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
    return (_generated_selector(job) if not job.spec.manualSelector else []) + _selecting_job_spec(job.spec)


def _generated_selector(job: Any) -> list[Cause]:
    """The selector must be the one that was made: whatever else selects could take another's pods."""
    spec, labels = job.spec, job.spec.template.metadata.labels
    causes: list[Cause] = []
    made = {CONTROLLER_UID: job.metadata.uid, JOB_NAME: job.metadata.name}
    for name, value in made.items():
        if labels.get(name) != value:
            where = f"spec.template.metadata.labels[{name}]"
            causes.append(invalid(where, labels, f"must be '{value}'"))
    made |= {f"{_DOMAIN}{name}": value for name, value in made.items()}
    try:
        selects = from_message(spec.selector).matches(made)
    except ValueError:
        return causes
    return causes if selects else [*causes, invalid("spec.selector", spec.selector, "`selector` not auto-generated")]


def _selecting_job_spec(spec: Any) -> list[Cause]:
    causes = job_spec("spec", spec)
    if spec.HasField("selector"):
        causes += label_selector("spec.selector", spec.selector)
    else:
        causes.append(required("spec.selector"))
    return causes + (unselected("spec", spec) or [])


def job_spec(path: str, spec: Any) -> list[Cause]:
    """A Job's spec, its selector aside."""
    causes: list[Cause] = []
    for field in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        if spec.HasField(field):
            causes += non_negative(f"{path}.{field}", getattr(spec, field))
    causes += index_limits(path, spec)
    if spec.HasField("managedBy"):
        causes += _managed_by(f"{path}.managedBy", spec.managedBy)
    if spec.HasField("completionMode"):
        if spec.completionMode not in ("NonIndexed", "Indexed"):
            allowed = ["NonIndexed", "Indexed"]
            causes.append(not_supported(f"{path}.completionMode", spec.completionMode, allowed))
        elif spec.completionMode == "Indexed" and not spec.HasField("completions"):
            causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if spec.HasField("podFailurePolicy"):
        causes += failure_policy(f"{path}.podFailurePolicy", spec)
    if spec.HasField("successPolicy"):
        causes += success_policy(f"{path}.successPolicy", spec)
    if spec.HasField("podReplacementPolicy"):
        causes += replacement_policy(f"{path}.podReplacementPolicy", spec)
    causes += pod_template(f"{path}.template", spec.template)
    policy = spec.template.spec.restartPolicy
    if policy in ("", "Always"):
        # A template gets the policy Always by default, which says that its user chose none.
        causes.append(required(f"{path}.template.spec.restartPolicy", _RESTARTS))
    elif policy not in ("OnFailure", "Never"):
        causes.append(not_supported(f"{path}.template.spec.restartPolicy", policy, ["OnFailure", "Never"]))
    elif spec.HasField("podFailurePolicy") and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid(f"{path}.template.spec.restartPolicy", policy, detail))
    return causes


def _managed_by(path: str, controller: str) -> list[Cause]:
    causes = domain_prefixed(path, controller)
    return causes + ([too_long(path, _MANAGED_BY_LIMIT)] if len(controller) > _MANAGED_BY_LIMIT else [])


def _update_job(new: Any, old: Any) -> list[Cause]:
    causes = _update_completions(new.spec, old.spec)
    causes += immutable("spec.selector", new.spec.selector, old.spec.selector)
    causes += immutable("spec.template", new.spec.template, _changeable_template(new, old))
    for field in _FIXED:
        after, before = (getattr(spec, field) if spec.HasField(field) else None for spec in (new.spec, old.spec))
        causes += immutable(f"spec.{field}", after, before)
    return causes


def _update_completions(new: Any, old: Any) -> list[Cause]:
    """Indexes are added and taken away together with the pods that run at once."""
    if new.HasField("completions") == old.HasField("completions") and new.completions == old.completions:
        return []
    if new.completionMode != "Indexed":
        return [invalid("spec.completions", new.completions, IMMUTABLE)]
    if new.completions == new.parallelism:
        return []
    return [invalid("spec.completions", new.completions, "can only be modified in tandem with spec.parallelism")]


def _changeable_template(new: Any, old: Any) -> Any:
    """The old template, with what may still change as the new one has it.

    As long as a suspended Job has no pods, a queue may say where they will go.
    """
    if not old.spec.suspend or old.status.HasField("startTime"):
        return old.spec.template
    template = core.PodTemplateSpec()
    template.CopyFrom(old.spec.template)
    after, before = new.spec.template.spec, template.spec
    for target, source, fields in (
        (before, after, ("nodeSelector", "tolerations", "schedulingGates")),
        (template.metadata, new.spec.template.metadata, ("labels", "annotations")),
    ):
        for field in fields:
            take_field(target, source, field)
    take_node_affinity(before, after)
    return template


def _update_job_validated(new: Any, old: Any) -> list[Cause]:
    return _selecting_job_spec(new.spec) + _update_job(new, old)


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
    if spec.jobTemplate.spec.HasField("selector"):
        where, detail = "spec.jobTemplate.spec.selector", "`selector` will be auto-generated"
        causes.append(invalid(where, spec.jobTemplate.spec.selector, detail))
    if spec.jobTemplate.spec.manualSelector:
        message = 'Unsupported value: true: supported values: "nil", "false"'
        causes.append(Cause("spec.jobTemplate.spec.manualSelector", "FieldValueNotSupported", message))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if spec.HasField(field):
            causes += non_negative(f"spec.{field}", getattr(spec, field))
    if "TZ" in spec.schedule and (spec.HasField("timeZone") or not cron_job.metadata.resourceVersion):
        # Schedules that are stored may still name their zone, as they once could.
        both = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        instead = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.append(invalid("spec.schedule", spec.schedule, both if spec.HasField("timeZone") else instead))
    if spec.HasField("timeZone"):
        causes += _time_zone("spec.timeZone", spec.timeZone)
    if len(cron_job.metadata.name) > _CRON_NAME_LIMIT and not cron_job.metadata.resourceVersion:
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
