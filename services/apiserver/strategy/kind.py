"""The shape of one kind's rules. The modules named after an API group fill one `Kind` per message type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.apiserver.strategy.names import NameRule, dns_subdomain
from tillerman.api.status import Cause

Prepare = Callable[[Any], None]
PrepareUpdate = Callable[[Any, Any], None]
Validate = Callable[[Any], list[Cause]]
ValidateUpdate = Callable[[Any, Any], list[Cause]]


def _nothing(*_objects: Any) -> None:
    return None


def _no_causes(*_objects: Any) -> list[Cause]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rules of one kind. `create` and `update` run after the generic preparation, `validate*` after metadata's."""

    name: NameRule = dns_subdomain
    namespaced: bool = True
    # The kind has a status subresource: a plain write cannot set status.
    status: bool = False
    # metadata.generation counts changes of everything but metadata and status.
    generation: bool = False
    # An update without a resourceVersion overwrites; otherwise it is refused.
    unconditional_update: bool = True
    # The missing resourceVersion is told among the rules' own causes, not alone.
    version_among_causes: bool = False
    # PUT of an object that does not exist creates it.
    create_on_update: bool = False
    create: Prepare = _nothing
    update: PrepareUpdate = _nothing
    update_status: PrepareUpdate = _nothing
    validate: Validate = _no_causes
    # Rules about old and new together; `validate` has already run on the new object.
    validate_update: ValidateUpdate = _no_causes
    validate_status: ValidateUpdate = _no_causes
    # Rules of writes through other subresources of the object, instead of all others.
    through: Mapping[str, ValidateUpdate] = field(default_factory=dict)
    # The old object is valid by definition: kinds whose updates are checked by the transition alone leave this off.
    validate_on_update: bool = True
    # Finalizers need no path after their domain.
    plain_finalizers: bool = False
    # Many objects of the kind are equal but for their metadata, and the rules look at nothing else: see alike.py.
    alike: bool = False
