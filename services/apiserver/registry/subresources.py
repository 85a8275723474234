"""Subresources that are not the object itself: binding, scale, finalize."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.apiserver import patch as patches
from services.apiserver.admission.chain import UPDATE, Attributes, Chain
from services.apiserver.registry.context import Context
from services.apiserver.registry.decoding import decode
from services.apiserver.registry.identity import (
    check_identity,
    check_name,
    check_namespace,
    other_namespace,
    precondition_conflict,
)
from services.apiserver.registry.managed import manager_of
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.registry import BaseSubresource, Target
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.writing import Writer
from tillerman.api import codec, times
from tillerman.api.meta import set_condition
from tillerman.api.status import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
    invalid_value,
    is_not_found,
    not_found,
    not_supported,
    required,
)
from tillerman.pb.k8s import autoscaling_v1_pb2, core_v1_pb2, meta_v1_pb2

SCALE = ("autoscaling/v1", "Scale")


class Binding(BaseSubresource):
    """pods/binding: sets spec.nodeName once, the binding's labels and annotations, and the condition PodScheduled."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def create(self, resource: Resource, target: Target, body: Any, context: Context) -> Message:
        if body.metadata.name != target.name:
            raise bad_request("name in URL does not match name in Binding object")
        if body.metadata.namespace not in ("", target.namespace):
            raise other_namespace()
        causes = []
        if body.target.kind not in ("", "Node"):
            causes.append(not_supported("target.kind", body.target.kind, ("Node", "<empty>")))
        if not body.target.name:
            causes.append(required("target.name"))
        if causes:
            raise invalid("Binding", target.name, causes)
        if not target.name:
            raise bad_request("Name parameter required.")
        wanted = body.metadata

        async def bind(pod: Any) -> Any:
            if wanted.uid and wanted.uid != pod.metadata.uid:
                raise precondition_conflict(resource, target.namespace, target.name, wanted.uid, pod.metadata.uid)
            version = pod.metadata.resourceVersion
            if wanted.resourceVersion and wanted.resourceVersion != version:
                raise precondition_conflict(
                    resource, target.namespace, target.name, wanted.resourceVersion, version, "ResourceVersion"
                )
            if pod.metadata.HasField("deletionTimestamp"):
                raise conflict(
                    "pods/binding",
                    target.name,
                    detail=f"pod {target.name} is being deleted, cannot be assigned to a host",
                )
            if pod.spec.nodeName:
                detail = f"pod {target.name} is already assigned to node {shown(pod.spec.nodeName)}"
                raise conflict("pods/binding", target.name, detail=detail)
            pod.spec.nodeName = body.target.name
            for name, value in wanted.annotations.items():
                pod.metadata.annotations[name] = value
            for name, value in wanted.labels.items():
                pod.metadata.labels[name] = value
            set_scheduled(pod)
            return pod

        await self._writer.modify(resource, target.namespace, target.name, bind, context, "binding", admitted=True)
        status = meta_v1_pb2.Status(status="Success", code=201)
        status.metadata.SetInParent()
        return status


def shown(name: str) -> str:
    return f'"{name}"'


def set_scheduled(pod: Any) -> None:
    condition = core_v1_pb2.PodCondition(type="PodScheduled", status="True", lastTransitionTime=times.now())
    set_condition(pod.status.conditions, condition)


class Finalize(BaseSubresource):
    """namespaces/finalize: the only way to write spec.finalizers. A terminating namespace without any is removed."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def update(self, resource: Resource, target: Target, body: Any, context: Context) -> Any:
        check_identity(resource, body, "", target.name)

        async def finalize(namespace: Any) -> Any:
            wanted = resource.copy(body)
            wanted.status.CopyFrom(namespace.status)
            wanted.metadata.resourceVersion = wanted.metadata.resourceVersion or namespace.metadata.resourceVersion
            return wanted

        return await self._writer.modify(resource, "", target.name, finalize, context, "finalize")


class Scale(BaseSubresource):
    """scale of whatever has replicas: sets their number, nothing else."""

    def __init__(self, reader: Reader, writer: Writer, admission: Chain) -> None:
        self._reader = reader
        self._writer = writer
        self._admission = admission

    async def get(self, resource: Resource, target: Target, context: Context) -> Message:
        try:
            entry = await self._reader.get(resource, target.namespace, target.name)
        except StatusError as error:
            if not is_not_found(error):
                raise
            raise not_found(f"{resource.name}/scale", target.name, resource.group) from error
        obj = await resource.load(entry)
        resource.check_scale(obj)
        return resource.scale_of(obj)

    async def update(self, resource: Resource, target: Target, body: Any, context: Context) -> Message:
        meta = body.metadata
        check_name(meta.name, target.name)
        if meta.namespace and meta.namespace != target.namespace:
            raise other_namespace()
        return await self._set(resource, target, context, lambda _current: body)

    async def patch(
        self, resource: Resource, target: Target, patch_type: str, patch: bytes, context: Context
    ) -> Message:
        def patched(current: Message) -> Any:
            content = _patched(resource, codec.to_dict(current), patch_type, patch, context)
            scale = decode(autoscaling_v1_pb2.Scale, content, context)
            check_name(scale.metadata.name, target.name)
            check_namespace(scale.metadata.namespace, target.namespace)
            return scale

        return await self._set(resource, target, context, patched)

    async def _set(self, resource: Resource, target: Target, context: Context, wanted: Any) -> Message:
        async def scale(obj: Any) -> Any:
            before = resource.scale_of(obj)
            attributes = Attributes(
                UPDATE, resource, target.namespace, target.name, "scale", wanted(before), before, context, SCALE
            )
            await self._admission.review(attributes)
            body = attributes.obj
            if body.metadata.resourceVersion and body.metadata.resourceVersion != obj.metadata.resourceVersion:
                raise conflict(resource.name, target.name, resource.group)
            if body.metadata.uid and body.metadata.uid != obj.metadata.uid:
                raise precondition_conflict(
                    resource, target.namespace, target.name, body.metadata.uid, obj.metadata.uid
                )
            if causes := validate_scale(resource, body):
                raise invalid("Scale.autoscaling", target.name, causes)
            resource.set_replicas(obj, body.spec.replicas)
            return obj

        # A scale has no record of who set what, nor does it change its object's.
        written = await self._writer.modify(
            resource, target.namespace, target.name, scale, context, track=False, admitted=True
        )
        return resource.scale_of(await resource.load(written.entry))


def _patched(
    resource: Resource, current: dict[str, Any], patch_type: str, patch: bytes, context: Context
) -> dict[str, Any]:
    if patch_type != patches.APPLY_PATCH:
        types = None if resource.custom else autoscaling_v1_pb2.Scale.DESCRIPTOR
        return patches.apply_patch(patch_type, current, patch, types)
    applied, _ = patches.parse_applied(patch)
    return patches.apply(
        current,
        applied,
        api_version="autoscaling/v1",
        kind="Scale",
        manager=manager_of(context),
        time=times.rfc3339(times.now()),
        force=context.force,
    )


def validate_scale(resource: Resource, scale: Any) -> list[Cause]:
    causes = []
    if not resource.custom and not scale.metadata.namespace:
        causes.append(required("metadata.namespace"))
    if scale.spec.replicas < 0:
        causes.append(invalid_value("spec.replicas", scale.spec.replicas, "must be greater than or equal to 0"))
    return causes
