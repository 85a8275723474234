"""Priority: a pod's priorityClassName as a number and a preemption policy; one PriorityClass at most is the default."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.admission.parsed import Parsed
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader

PREEMPTS = "PreemptLowerPriority"
SCHEDULING, CLASSES = "scheduling.k8s.io/v1", "priorityclasses"


class Priority(BasePlugin):
    operations = frozenset({CREATE, UPDATE})
    resources = frozenset({("", "pods"), ("scheduling.k8s.io", CLASSES)})
    reads = frozenset({(SCHEDULING, CLASSES)})

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader
        self._default: Parsed[Any | None] = Parsed(catalog, SCHEDULING, CLASSES, _default_of)

    async def admit(self, attributes: Attributes) -> None:
        """Raises Forbidden for a class that does not exist, and for numbers that are not the class's."""
        if attributes.resource.name == CLASSES:
            return
        if attributes.operation == UPDATE:
            _keep(attributes.obj.spec, attributes.old.spec)
            return
        spec = attributes.obj.spec
        name = spec.priorityClassName
        found = await self._class(name) if name else self._default.value()
        if name and found is None:
            raise refused(attributes, f"no PriorityClass with name {name} was found")
        value, policy = (found.value, found.preemptionPolicy) if found is not None else (0, PREEMPTS)
        if found is not None:
            spec.priorityClassName = found.metadata.name
        if spec.HasField("priority") and spec.priority != value:
            raise refused(
                attributes,
                f"the integer value of priority ({spec.priority}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        spec.priority = value
        if policy:
            if spec.preemptionPolicy and spec.preemptionPolicy != policy:
                raise refused(
                    attributes,
                    f"the string value of PreemptionPolicy ({spec.preemptionPolicy}) must not be provided in pod spec; "
                    f"priority admission controller computed {policy} from the given PriorityClass name",
                )
            spec.preemptionPolicy = policy

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden for a second default class."""
        if attributes.resource.name != CLASSES or not attributes.obj.globalDefault:
            return
        default = self._default.value()
        if default is None:
            return
        if attributes.operation == CREATE or default.metadata.name != attributes.obj.metadata.name:
            name = default.metadata.name
            raise refused(attributes, f"PriorityClass {name} is already marked as default. Only one default can exist")

    async def _class(self, name: str) -> Any | None:
        classes = self._catalog.get(SCHEDULING, CLASSES)
        key = classes.key("", name)
        entry = classes.cache.entries.get(key) or await self._reader.fresh(classes, key)
        return None if entry is None else entry.message()


def _default_of(classes: list[Any]) -> Any | None:
    """The class of the lowest value, should there be more than one default after all."""
    return min((found for found in classes if found.globalDefault), key=lambda found: found.value, default=None)


def _keep(new: Any, old: Any) -> None:
    """What was decided at creation stays where an update leaves it out."""
    for field in ("priority", "preemptionPolicy"):
        if old.HasField(field) and not new.HasField(field):
            setattr(new, field, getattr(old, field))
