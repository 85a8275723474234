"""The objects a controller owns: which are its own, which to adopt, which to let go.

Whoever has a controller reference owns the child. A child without one is adopted by the one owner whose selector
matches; a child whose labels no longer match is released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from tillerman.api.meta import controller_of, owner_reference
from tillerman.api.selectors import LabelSelector
from tillerman.api.status import StatusError, is_conflict, is_invalid, is_not_found
from tillerman.client.informer import Informer
from tillerman.client.resource import ResourceClient

T = TypeVar("T", bound=Any)

CONTROLLER_INDEX = "controller-uid"
ORPHAN_INDEX = "orphans-by-namespace"


@dataclass
class Claims(Generic[T]):
    """`owned` are kept, `adopt` have no owner yet and match, `release` are owned and match no longer."""

    owned: list[T] = field(default_factory=list)
    adopt: list[T] = field(default_factory=list)
    release: list[T] = field(default_factory=list)


def plan_claims(owner: Any, candidates: Iterable[T], selector: LabelSelector) -> Claims[T]:
    claims: Claims[T] = Claims()
    owner_leaves = owner.metadata.HasField("deletionTimestamp")
    for child in candidates:
        reference = controller_of(child)
        if reference is not None:
            if reference.uid != owner.metadata.uid:
                continue
            if selector.matches(child.metadata.labels):
                claims.owned.append(child)
            elif not owner_leaves:
                claims.release.append(child)
        elif (
            not owner_leaves
            and not child.metadata.HasField("deletionTimestamp")
            and selector.matches(child.metadata.labels)
        ):
            claims.adopt.append(child)
    return claims


def index_by_owner(informer: Informer[Any]) -> None:
    """Adds the two indexes that `candidates` reads."""
    informer.add_index(CONTROLLER_INDEX, _controller_uids)
    informer.add_index(ORPHAN_INDEX, _orphans)


def _controller_uids(obj: Any) -> Iterable[str]:
    reference = controller_of(obj)
    return () if reference is None else (reference.uid,)


def _orphans(obj: Any) -> Iterable[str]:
    return (obj.metadata.namespace,) if controller_of(obj) is None else ()


def candidates(informer: Informer[T], owner: Any) -> list[T]:
    """The children that name the owner, and those in its namespace that name nobody."""
    return [
        *informer.by_index(CONTROLLER_INDEX, owner.metadata.uid),
        *informer.by_index(ORPHAN_INDEX, owner.metadata.namespace),
    ]


async def claim(
    owner: Any,
    *,
    children: Informer[T],
    selector: LabelSelector,
    owner_client: ResourceClient[Any],
    child_client: ResourceClient[T],
) -> list[T]:
    """The owner's children after adopting and releasing. Raises StatusError when an adoption fails for good."""
    claims = plan_claims(owner, candidates(children, owner), selector)
    owned = claims.owned
    if claims.adopt:
        fresh = await owner_client.get(owner.metadata.name, owner.metadata.namespace)
        if fresh.metadata.uid != owner.metadata.uid or fresh.metadata.HasField("deletionTimestamp"):
            claims.adopt.clear()
    for child in claims.adopt:
        adopted = await _unless_gone(lambda child=child: _adopt(child_client, child, owner))  # type: ignore[misc]
        if adopted is not None:
            owned.append(adopted)
    for child in claims.release:
        await _unless_gone(lambda child=child: _release(child_client, child, owner))  # type: ignore[misc]
    return owned


async def _adopt(client: ResourceClient[T], child: T, owner: Message) -> T:
    reference = owner_reference(owner)
    patch = {
        "metadata": {
            "uid": child.metadata.uid,
            "ownerReferences": [
                {
                    "apiVersion": reference.apiVersion,
                    "kind": reference.kind,
                    "name": reference.name,
                    "uid": reference.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
    }
    return await client.patch(child.metadata.name, child.metadata.namespace, patch, type="strategic")


async def _release(client: ResourceClient[T], child: T, owner: Any) -> T:
    patch = {
        "metadata": {
            "uid": child.metadata.uid,
            "ownerReferences": [{"$patch": "delete", "uid": owner.metadata.uid}],
        }
    }
    return await client.patch(child.metadata.name, child.metadata.namespace, patch, type="strategic")


async def _unless_gone(write: Callable[[], Any]) -> Any:
    try:
        return await write()
    except StatusError as error:
        if is_not_found(error) or is_invalid(error) or is_conflict(error):
            return None
        raise
