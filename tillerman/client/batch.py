"""Independent writes in one call: each has its own outcome."""

from dataclasses import dataclass

from google.protobuf.message import Message

from tillerman.client.resource import PATCH_TYPES, Patch, delete_options, pack, patch_bytes
from tillerman.client.typed import identity_of
from tillerman.pb.api import objects_pb2 as pb


@dataclass(frozen=True, slots=True)
class BatchOp:
    """One write, made by `create`, `update`, `update_status`, `patch` or `delete`."""

    operation: pb.BatchRequest.Operation

    @classmethod
    def create(
        cls,
        obj: Message,
        *,
        of: type[Message] | None = None,
        name: str = "",
        namespace: str = "",
        subresource: str = "",
        field_manager: str = "",
    ) -> "BatchOp":
        """Creates obj; or, with `of`, name and subresource, posts it: BatchOp.create(binding, of=Pod, name=…,
        namespace=…, subresource="binding")."""
        identity = identity_of(obj)
        target = _target(of or type(obj), name or identity.name, namespace or identity.namespace, subresource)
        request = pb.CreateRequest(target=target, object=pack(obj), field_manager=field_manager)
        return cls(pb.BatchRequest.Operation(create=request))

    @classmethod
    def update(cls, obj: Message, *, subresource: str = "", field_manager: str = "") -> "BatchOp":
        identity = identity_of(obj)
        target = _target(type(obj), identity.name, identity.namespace, subresource)
        request = pb.UpdateRequest(target=target, object=pack(obj), field_manager=field_manager)
        return cls(pb.BatchRequest.Operation(update=request))

    @classmethod
    def update_status(cls, obj: Message) -> "BatchOp":
        return cls.update(obj, subresource="status")

    @classmethod
    def patch(
        cls,
        of: type[Message],
        name: str,
        namespace: str,
        patch: Patch,
        *,
        type: str = "merge",
        subresource: str = "",
        field_manager: str = "",
    ) -> "BatchOp":
        request = pb.PatchRequest(
            target=_target(of, name, namespace, subresource),
            patch_type=PATCH_TYPES[type],
            patch=patch_bytes(patch),
            field_manager=field_manager,
        )
        return cls(pb.BatchRequest.Operation(patch=request))

    @classmethod
    def delete(
        cls,
        of: type[Message],
        name: str,
        namespace: str = "",
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> "BatchOp":
        options = delete_options(
            grace_period_seconds=grace_period_seconds,
            propagation_policy=propagation_policy,
            uid=uid,
            resource_version=resource_version,
        )
        request = pb.DeleteRequest(target=_target(of, name, namespace), options=options)
        return cls(pb.BatchRequest.Operation(delete=request))


def _target(of: type[Message], name: str, namespace: str, subresource: str = "") -> pb.Target:
    from tillerman.api.scheme import SCHEME

    info = SCHEME.by_message(of)
    return pb.Target(
        api_version=info.api_version,
        resource=info.resource,
        namespace=(namespace or "default") if info.namespaced else "",
        name=name,
        subresource=subresource,
    )
