"""Creating and deleting pods for an owner: in batches, expected before the call, told as events.

A batch that fails in part ends the round: the first batches are small, so that a quota or a webhook that refuses every
pod is asked a few times, not five hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from services.controller.expectations import Expectations
from services.controller.naming import generated_name
from services.controller.outcomes import namespace_terminating
from tillerman.api.meta import owner_reference
from tillerman.api.status import StatusError, is_already_exists, is_not_found
from tillerman.client.batch import BatchOp
from tillerman.client.client import Client
from tillerman.client.events import EventRecorder
from tillerman.pb.k8s import core_v1_pb2 as core

FIRST_BATCH = 16
_UNKNOWN_OUTCOME_CODES = frozenset({500, 503, 504})


@dataclass(frozen=True)
class Outcome:
    """How many calls were carried out, and the first refusal."""

    succeeded: int = 0
    failure: StatusError | None = None


def pod_from_template(template: core.PodTemplateSpec, owner: Message, *, name: str = "") -> core.Pod:
    """A pod of `owner` (its controller reference set), with a generated name unless one is given."""
    meta = owner.metadata  # type: ignore[attr-defined]
    pod = core.Pod()
    pod.metadata.labels.update(template.metadata.labels)
    pod.metadata.annotations.update(template.metadata.annotations)
    pod.metadata.finalizers.extend(template.metadata.finalizers)
    pod.metadata.namespace = meta.namespace
    if name:
        pod.metadata.name = name
    else:
        pod.metadata.generateName = f"{meta.name}-"
        pod.metadata.name = generated_name(f"{meta.name}-")
    pod.metadata.ownerReferences.append(owner_reference(owner))
    pod.spec.CopyFrom(template.spec)
    return pod


class PodControl:
    """The one write path to pods for a controller."""

    def __init__(self, client: Client, recorder: EventRecorder, expectations: Expectations) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations = expectations

    async def create(self, owner: Message, key: str, count: int, make: Callable[[int], core.Pod]) -> Outcome:
        """Creates `count` pods made by `make(index)`; stops after a batch with a refusal."""
        done, size, failure = 0, FIRST_BATCH, None
        while done < count and failure is None:
            pods = [make(index) for index in range(done, min(done + size, count))]
            succeeded, failure = await self._create_batch(owner, key, pods)
            done += succeeded
            size *= 4
            if succeeded < len(pods):
                break
        return Outcome(done, failure)

    async def _create_batch(self, owner: Message, key: str, pods: list[core.Pod]) -> tuple[int, StatusError | None]:
        self._expectations.expect_creations(key, (pod.metadata.name for pod in pods))
        results = await self._batch([BatchOp.create(pod) for pod in pods])
        succeeded, failure = 0, None
        for pod, result in zip(pods, results, strict=True):
            name = pod.metadata.name
            if not isinstance(result, StatusError):
                succeeded += 1
                self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name}")
                continue
            if result.code in _UNKNOWN_OUTCOME_CODES:
                self._expectations.unknown_outcome(key, name=name)
            else:
                self._expectations.creation_settled(key, name)
            if is_already_exists(result) and pod.metadata.generateName:
                # A random suffix met an old one; the next round picks another.
                failure = failure or result
                continue
            if namespace_terminating(result):
                # The owner goes, too; there is nothing to try again.
                continue
            failure = failure or result
            self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {result.message}")
        return succeeded, failure

    async def delete(self, owner: Message, key: str, pods: Sequence[core.Pod]) -> Outcome:
        """Deletes the pods by uid; one that is gone already counts as deleted."""
        if not pods:
            return Outcome()
        self._expectations.expect_deletions(key, (pod.metadata.uid for pod in pods))
        operations = [
            BatchOp.delete(core.Pod, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid) for pod in pods
        ]
        succeeded, failure = 0, None
        for pod, result in zip(pods, await self._batch(operations), strict=True):
            if not isinstance(result, StatusError):
                succeeded += 1
                self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
                continue
            if result.code in _UNKNOWN_OUTCOME_CODES:
                self._expectations.unknown_outcome(key, uid=pod.metadata.uid)
            else:
                self._expectations.deletion_settled(key, pod.metadata.uid)
            if is_not_found(result):
                succeeded += 1
                continue
            failure = failure or result
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {result.message}")
        return Outcome(succeeded, failure)

    async def _batch(self, operations: list[BatchOp]) -> list[Message | StatusError]:
        try:
            return list(await self._client.batch(operations))
        except StatusError as error:
            return [error] * len(operations)
