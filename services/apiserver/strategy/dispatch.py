"""Runs one kind's rules: the generic part that every kind shares, then the kind's own from its group's module."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.apiserver.strategy import defaulting, metadata
from services.apiserver.strategy.alike import Content, Remembered, content_of
from services.apiserver.strategy.causes import invalid
from services.apiserver.strategy.equality import semantically_equal
from services.apiserver.strategy.kind import Kind
from services.apiserver.strategy.kinds import KINDS
from services.apiserver.strategy.masking import take_field
from tillerman.api.status import Cause

_PLAIN = Kind()


_ALIKE = {message: Remembered() for message, rules in KINDS.items() if rules.alike}


def alike_content(obj: Message) -> Content | None:
    """Equal for objects that differ in nothing but their names; None for kinds that come one by one."""
    return content_of(obj) if type(obj) in _ALIKE else None


def kind_rules(obj: Message) -> Kind:
    """The rules of this message's kind; a kind without any gets the plain ones."""
    return KINDS.get(type(obj), _PLAIN)


def default(obj: Message) -> None:
    """Fill every field that Kubernetes fills, in place. Running it twice changes nothing."""
    alike = _ALIKE.get(type(obj))
    if alike is None:
        defaulting.apply(obj)
    else:
        alike.defaults.change(obj, defaulting.apply)


def allows_unconditional_update(obj: Message) -> bool:
    """Whether an update without a resourceVersion overwrites what is stored."""
    return kind_rules(obj).unconditional_update


def demands_version(obj: Message) -> bool:
    """Whether an update without a resourceVersion is refused before anything else of it is looked at."""
    rules = kind_rules(obj)
    return not rules.unconditional_update and not rules.version_among_causes


def allows_create_on_update(obj: Message) -> bool:
    """Whether PUT of an object that does not exist creates it."""
    return kind_rules(obj).create_on_update


def prepare_for_create(obj: Any) -> Content | None:
    """Drop what a client may not set at creation and set what the server does, in place.

    metadata.uid must already be set: a Job's selector is made from it. What it returns is for `validate_create`.
    """
    rules = kind_rules(obj)
    meta = obj.metadata
    meta.ClearField("deletionTimestamp")
    meta.ClearField("deletionGracePeriodSeconds")
    meta.ClearField("selfLink")
    if not rules.namespaced:
        meta.ClearField("namespace")
    if rules.generation:
        meta.generation = 1
    if rules.status:
        obj.ClearField("status")
    alike = _ALIKE.get(type(obj))
    if alike is None:
        rules.create(obj)
        return None
    return alike.created.change(obj, rules.create)


def prepare_for_update(new: Any, old: Any, subresource: str = "") -> None:
    """Put back what this write may not change, and count the generation, in place on `new`.

    A write of "status" keeps everything of `old` but status and metadata; a plain write keeps the status.
    """
    rules = kind_rules(new)
    if not rules.namespaced:
        new.metadata.ClearField("namespace")
    metadata.carry_over(new, old)
    if subresource == "status":
        _keep_all_but_status(new, old)
        rules.update_status(new, old)
        return
    if rules.status and subresource == "":
        take_field(new, old, "status")
    if subresource == "":
        rules.update(new, old)
    if rules.generation and _counted_part_changed(new, old):
        new.metadata.generation = old.metadata.generation + 1


def validate_create(obj: Any, prepared: Content | None = None) -> list[Cause]:
    """What is wrong with a new object, each cause naming its field; empty when it may be stored.

    ``prepared``: what `prepare_for_create` returned, if nothing has changed the object since.
    """
    rules = kind_rules(obj)
    alike = _ALIKE.get(type(obj))
    if alike is not None and alike.valid.known(prepared) is not None:
        return metadata.validate_own(obj.metadata, rules)
    causes = [*metadata.validate(obj.metadata, rules), *rules.validate(obj)]
    if alike is not None and not causes:
        alike.valid.remember(prepared)
    return causes


def comes_alike(kind: type[Message]) -> bool:
    """Whether the rules of a kind read and change nothing that tells alike objects apart (see alike.py)."""
    return kind in _ALIKE


def validate_name(kind: type[Message], name: str) -> list[Cause]:
    """What is wrong with the name of a new object that is valid under others (see alike.py)."""
    return metadata.validate_name(name, KINDS.get(kind, _PLAIN))


def validate_update(new: Any, old: Any, subresource: str = "") -> list[Cause]:
    """What is wrong with replacing `old` by `new` through the object itself ("") or one of its subresources."""
    rules = kind_rules(new)
    causes = metadata.validate_update(new.metadata, old.metadata, rules)
    if rules.version_among_causes and not new.metadata.resourceVersion:
        causes.append(invalid("metadata.resourceVersion", "", "must be specified for an update"))
    if subresource == "status":
        return [*causes, *rules.validate_status(new, old)]
    if subresource in rules.through:
        return [*causes, *rules.through[subresource](new, old)]
    if rules.validate_on_update:
        causes += _validate_again(new, rules)
    return [*causes, *rules.validate_update(new, old)]


def _validate_again(obj: Message, rules: Kind) -> list[Cause]:
    """The kind's rules for an update, whose metadata has other ones."""
    alike = _ALIKE.get(type(obj))
    if alike is None:
        return rules.validate(obj)
    content = content_of(obj)
    if alike.valid_again.known(content) is not None:
        return []
    causes = rules.validate(obj)
    if not causes:
        alike.valid_again.remember(content)
    return causes


def _keep_all_but_status(new: Any, old: Any) -> None:
    meta, status = type(new.metadata)(), None
    meta.CopyFrom(new.metadata)
    if new.HasField("status"):
        status = type(new.status)()
        status.CopyFrom(new.status)
    new.CopyFrom(old)
    new.metadata.CopyFrom(meta)
    new.ClearField("status")
    if status is not None:
        new.status.CopyFrom(status)


def _counted_part_changed(new: Any, old: Any) -> bool:
    """Whether anything but metadata and status differs."""
    fields = [f.name for f in new.DESCRIPTOR.fields if f.name not in ("metadata", "status")]
    first, second = type(new)(), type(old)()
    for target, source in ((first, new), (second, old)):
        target.CopyFrom(source)
        target.ClearField("metadata")
        if "status" in source.DESCRIPTOR.fields_by_name:
            target.ClearField("status")
    return bool(fields) and not semantically_equal(first, second)
