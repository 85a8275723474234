"""Between the versions of a custom resource: by relabelling, or by asking the definition's webhook."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.apiserver.crd.objects import CustomObject
from services.apiserver.strategy.causes import label_map
from services.apiserver.strategy.metadata import annotation_map
from services.apiserver.webhooks.client import Endpoint, WebhookClient, WebhookError
from tillerman.api import codec
from tillerman.api.status import internal

WEBHOOK_SECONDS = 30.0
REVIEW_VERSIONS = ("v1", "v1beta1")


class Converter(Protocol):
    async def convert(self, objects: list[CustomObject], api_version: str) -> list[CustomObject]:
        """The objects in another version; takes them over. Raises StatusError."""


class Relabel:
    """Strategy None: the objects are the same in all versions but for their apiVersion."""

    async def convert(self, objects: list[CustomObject], api_version: str) -> list[CustomObject]:
        for obj in objects:
            obj.content["apiVersion"] = api_version
        return objects


class ConversionError(Exception):
    """The webhook's answer cannot be taken."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Strategy Webhook. ``versions``: the definition's conversionReviewVersions, the most wanted first."""

    client: WebhookClient
    endpoint: Endpoint
    versions: Sequence[str]

    async def convert(self, objects: list[CustomObject], api_version: str) -> list[CustomObject]:
        wanting = [index for index, obj in enumerate(objects) if obj.content.get("apiVersion") != api_version]
        if not wanting:
            return objects
        first = objects[wanting[0]]
        try:
            answers = await self._ask([objects[index] for index in wanting], api_version)
            for position, (index, answer) in enumerate(zip(wanting, answers, strict=True)):
                objects[index] = _accepted(objects[index], answer, api_version, position)
        except (WebhookError, ConversionError) as error:
            what = f"{first.content.get('apiVersion')}, Kind={first.kind}"
            raise internal(f"conversion webhook for {what} failed: {error}") from error
        return objects

    async def _ask(self, objects: list[CustomObject], api_version: str) -> list[Any]:
        version = next(version for version in self.versions if version in REVIEW_VERSIONS)
        review = f"apiextensions.k8s.io/{version}"
        request = {
            "uid": str(uuid.uuid4()),
            "desiredAPIVersion": api_version,
            "objects": [obj.to_dict() for obj in objects],
        }
        body = {"kind": "ConversionReview", "apiVersion": review, "request": request}
        answer = await self.client.call(self.endpoint, body, timeout=WEBHOOK_SECONDS)
        if (answer.get("apiVersion"), answer.get("kind")) != (review, "ConversionReview"):
            found = f"{answer.get('apiVersion')}, Kind={answer.get('kind')}"
            raise ConversionError(f"expected webhook response of {review}, Kind=ConversionReview, got {found}")
        response = answer.get("response")
        if not isinstance(response, dict):
            raise ConversionError("no response provided")
        if version == "v1" and response.get("uid") != request["uid"]:
            raise ConversionError(f'expected response.uid="{request["uid"]}", got "{response.get("uid", "")}"')
        result = response.get("result")
        result = result if isinstance(result, dict) else {}
        if result.get("status") != "Success":
            said = result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"
            raise ConversionError(str(said))
        converted = response.get("convertedObjects")
        if not isinstance(converted, list) or len(converted) != len(objects):
            count = len(converted) if isinstance(converted, list) else 0
            raise ConversionError(f"the webhook returned {count} objects, expected {len(objects)}")
        return converted


def _accepted(before: CustomObject, answer: Any, api_version: str, index: int) -> CustomObject:
    """What the webhook made of an object; of its metadata only labels and annotations may be new. Raises
    ConversionError.
    """
    where = f"invalid converted object at index {index}"
    if not isinstance(answer, dict):
        raise ConversionError(f"{where}: it is no object")
    if answer.get("apiVersion") != api_version:
        raise ConversionError(
            f"{where}: invalid apiVersion (expected {api_version}, received {answer.get('apiVersion')})"
        )
    if answer.get("kind") != before.kind:
        raise ConversionError(f"{where}: must have the same kind: {before.kind} != {answer.get('kind')}")
    try:
        after = CustomObject.of(answer)
    except codec.DecodeError as error:
        raise ConversionError(f"{where}: {error}") from error
    meta, own = after.metadata, before.metadata
    for name in ("name", "namespace", "uid"):
        if getattr(meta, name) != getattr(own, name):
            raise ConversionError(f"{where}: must have the same {name}: {getattr(own, name)} != {getattr(meta, name)}")
    if causes := label_map("metadata.labels", meta.labels) + annotation_map("metadata.annotations", meta.annotations):
        raise ConversionError(f"{where}: {causes[0]}")
    for field in (own.labels, own.annotations):
        field.clear()
    own.labels.update(meta.labels)
    own.annotations.update(meta.annotations)
    return CustomObject(after.content, own)
