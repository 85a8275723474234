"""Server-side apply, and the record of who set what that every other write keeps for it.

Works on JSON forms. The caller decodes, defaults and validates what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from services.apiserver.patch import last_applied
from services.apiserver.patch.errors import malformed
from services.apiserver.patch.field_paths import EMPTY, FieldSet, shown, with_named_parents
from services.apiserver.patch.field_types import DEDUCED, FieldType, message_type
from services.apiserver.patch.managers import APPLY, STRIPPED, UPDATE, Manager, Managers, Owned
from services.apiserver.patch.typed import Difference, TypingError, check, compare, fields_of, merge, remove
from tillerman.api import codec
from tillerman.api.manifest import parse_document
from tillerman.api.scheme import SCHEME
from tillerman.api.status import Cause, StatusError, make

# The object (before, after) in another version of its kind; None for a version that it doesn't have.
InVersion = Callable[[str], tuple[dict[str, Any] | None, dict[str, Any]] | None]

# An object's form in another version of its kind; None for a version that it doesn't have.
Convert = Callable[[dict[str, Any], str], dict[str, Any] | None]

BEFORE_FIRST_APPLY = "before-first-apply"


def type_of(api_version: str, kind: str) -> FieldType:
    """The built-in kind's type; deduced for a kind that is not ours (custom resources pass their own)."""
    try:
        return message_type(SCHEME.message_type(api_version, kind).DESCRIPTOR)
    except LookupError:
        return DEDUCED


@cache
def empty_object(api_version: str, kind: str) -> dict[str, Any]:
    """What Go encodes of an object with nothing set: creating means changing from this. Shared: never change it."""
    try:
        message = SCHEME.message_type(api_version, kind)
    except LookupError:
        return {}
    return codec.to_dict(message())


def parse_applied(patch: bytes) -> tuple[dict[str, Any], str]:
    """(the object of an apply patch (YAML or JSON), what is wrong with keys that stand twice). Raises BadRequest."""
    prefix = "error decoding YAML: "
    try:
        parsed, repeated = parse_document(patch)
    except codec.DecodeError as error:
        raise malformed(f"{prefix}error converting YAML to JSON: {error}") from error
    if parsed is None:
        parsed = {}
    if not isinstance(parsed, dict):
        detail = f"json: cannot unmarshal {codec.json_type(parsed)} into Go value of type map[string]interface {{}}"
        raise malformed(f"{prefix}error unmarshaling JSON: while decoding JSON: {detail}")
    return parsed, f"error converting YAML to JSON: {repeated}" if repeated else ""


def apply(
    live: dict[str, Any] | None,
    applied: dict[str, Any],
    *,
    api_version: str,
    kind: str,
    manager: str,
    time: str,
    force: bool = False,
    types: FieldType | None = None,
    convert: Convert | None = None,
) -> dict[str, Any]:
    """The live object (None: there is none yet) as the manager wants it, its metadata.managedFields up to date.

    Fields the manager applied before and leaves out now go, unless somebody else owns them. `time` is RFC 3339.
    `convert` shows the change to managers that know the object in another version.
    Raises BadRequest (not an object of this type) or Conflict (others own fields set differently, and not `force`).
    """
    _check_identity(applied, api_version, kind)
    types = types or type_of(api_version, kind)
    try:
        check(applied, types)
    except TypingError as error:
        raise malformed(f"failed to create typed patch object: {error}") from error
    current = live if live is not None else empty_object(api_version, kind)
    managers = _managers(live, current, api_version, kind, types, time)
    before = _without_record(current)
    who = Manager.of(manager, APPLY, api_version)
    previous = managers.entries[who].fields if who in managers.entries else EMPTY
    updated = managers.copy()
    # The fields that the server owns count here too, so that they keep metadata from being taken for given up.
    updated.entries[who] = Owned(fields_of(applied, types), api_version, time)
    wanted = merge(before, {k: v for k, v in applied.items() if v is not None}, types)
    wanted = _prune(wanted, types, previous, updated)
    difference = compare(before, wanted, types)

    @cache
    def seen_in(version: str) -> Difference:
        if convert is None or version == api_version:
            return difference
        first, second = convert(before, version), convert(wanted, version)
        if first is None or second is None:
            return difference
        return compare(_without_record(first), _without_record(second), type_of(version, kind))

    conflicts = _conflicts(updated, seen_in, who)
    if conflicts and not force:
        # kubectl takes over what kubectl applied in the client.
        yielded = last_applied.owned(before, api_version, types) if manager == last_applied.MANAGER else EMPTY
        kept = {other: fields - yielded for other, fields in conflicts.items() if fields - yielded}
        if kept:
            raise _refusal(kept)
    for other, fields in conflicts.items():
        updated.entries[other].fields -= fields
    for other, owned in updated.entries.items():
        if other != who:
            owned.fields -= seen_in(owned.api_version).removed
    updated.tidy()
    if difference.empty and live is not None and _same_owners(managers, updated):
        updated = managers
    result = {"apiVersion": api_version, "kind": kind, **wanted}
    if manager == last_applied.MANAGER:
        result = last_applied.brought_up_to_date(result, applied)
    return _with_record(result, updated)


def track_update(
    old: dict[str, Any] | None,
    new: dict[str, Any],
    *,
    manager: str,
    time: str,
    api_version: str,
    kind: str,
    types: FieldType | None = None,
    in_version: InVersion | None = None,
) -> list[dict[str, Any]]:
    """metadata.managedFields after a create (old is None), update or patch that is not an apply.

    `in_version` shows the write to managers that know the object in another version.
    What the write changed is now the manager's alone. An object whose record is empty stays without one; a client may
    empty it by writing `[{}]` or `[]`.
    """
    types = types or type_of(api_version, kind)
    given = (new.get("metadata") or {}).get("managedFields")
    if old is not None and given in ([], [{}]):
        return []
    try:
        managers = Managers.of(new.get("metadata"))
    except ValueError:
        managers = Managers()
    if not managers.entries and old is not None:
        managers = Managers.of(old.get("metadata"))
    if old is not None and not managers.entries:
        return []
    before = _without_record(old if old is not None else empty_object(api_version, kind))
    who = Manager.of(manager, UPDATE, api_version)
    _record(
        managers, who, before, _without_record(new), types, api_version, time, _changes_by_version(in_version, kind)
    )
    return managers.encoded()


def _changes_by_version(in_version: InVersion | None, kind: str) -> Callable[[str], Difference | None]:
    @cache
    def changes(api_version: str) -> Difference | None:
        forms = in_version(api_version) if in_version is not None else None
        if forms is None:
            return None
        before = forms[0] if forms[0] is not None else empty_object(api_version, kind)
        return compare(_without_record(before), _without_record(forms[1]), type_of(api_version, kind))

    return changes


def _record(
    managers: Managers,
    who: Manager,
    before: dict[str, Any],
    after: dict[str, Any],
    types: FieldType,
    api_version: str,
    time: str,
    elsewhere: Callable[[str], Difference | None] = lambda _version: None,
) -> None:
    difference = compare(before, after, types)
    taken = difference.set - STRIPPED
    known = managers.entries.get(who)
    former = known.fields if known is not None else EMPTY
    for owned in managers.entries.values():
        seen = None if owned.api_version == api_version else elsewhere(owned.api_version)
        seen = seen or difference
        if not seen.empty:
            owned.fields -= seen.set | seen.removed
    if taken:
        fields = taken | (known.fields if known is not None else EMPTY)
        # Other values for the same fields are no new claim.
        since = known.time if known is not None and fields == former else time
        managers.entries[who] = Owned(fields, api_version, since)
    managers.tidy()
    managers.limit_updaters()


def _check_identity(applied: dict[str, Any], api_version: str, kind: str) -> None:
    meta = applied.get("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise malformed("failed to create typed patch object: .metadata: expected map")
    if (meta or {}).get("managedFields") is not None:
        raise malformed("metadata.managedFields must be nil")
    given = applied.get("apiVersion") or ""
    if given != api_version:
        raise malformed(
            f"Incorrect version specified in apply patch. Specified patch version: {given}, expected: {api_version}"
        )
    if applied.get("kind") != kind:
        found = (
            f"{given}, Kind={applied.get('kind') or ''}"
            if "/" in given
            else f"/{given}, Kind={applied.get('kind') or ''}"
        )
        raise malformed(f"failed to create typed patch object: no corresponding type for {found}")


def _managers(
    live: dict[str, Any] | None, current: dict[str, Any], api_version: str, kind: str, types: FieldType, time: str
) -> Managers:
    """The record so far. What was there before anybody applied belongs to a manager of its own."""
    try:
        managers = Managers.of(current.get("metadata"))
    except ValueError:
        managers = Managers()
    if live is not None and not managers.entries:
        who = Manager(BEFORE_FIRST_APPLY, UPDATE, api_version)
        _record(managers, who, empty_object(api_version, kind), _without_record(live), types, api_version, time)
    return managers


def _prune(merged: dict[str, Any], types: FieldType, previous: FieldSet, managers: Managers) -> dict[str, Any]:
    """Take out what was applied before, put back what somebody (this manager included) still owns."""
    if not previous:
        return merged
    last = with_named_parents(previous)
    everything = with_named_parents(fields_of(merged, types))
    pruned = remove(merged, types, last)
    owned = with_named_parents(path for entry in managers.entries.values() for path in entry.fields)
    gone = everything - with_named_parents(fields_of(pruned or {}, types)) - owned
    pruned = remove(merged, types, gone)
    # What stood inside something removed, but was nobody's, stays.
    gone = (everything - with_named_parents(fields_of(pruned or {}, types))) & last
    result = remove(merged, types, gone)
    return result if isinstance(result, dict) else {}


def _conflicts(managers: Managers, seen_in: Callable[[str], Difference], who: Manager) -> dict[Manager, FieldSet]:
    found = {m: o.fields & seen_in(o.api_version).set for m, o in managers.entries.items() if m != who}
    return {m: fields for m, fields in found.items() if fields}


def _refusal(conflicts: dict[Manager, FieldSet]) -> StatusError:
    pairs = [(manager, path) for manager in sorted(conflicts, key=str) for path in sorted(conflicts[manager])]
    causes = [Cause(shown(path), "FieldManagerConflict", f"conflict with {manager}") for manager, path in pairs]
    if len(pairs) == 1:
        text = f"Apply failed with 1 conflict: conflict with {pairs[0][0]}: {shown(pairs[0][1])}"
    else:
        listed = []
        for manager in sorted(conflicts, key=str):
            paths = "".join(f"\n- {shown(path)}" for path in sorted(conflicts[manager]))
            listed.append(f"conflicts with {manager}:{paths}")
        text = f"Apply failed with {len(pairs)} conflicts: " + "\n".join(listed)
    return make(409, "Conflict", text, causes=causes)


def _same_owners(first: Managers, second: Managers) -> bool:
    return {m: o.fields for m, o in first.entries.items()} == {m: o.fields for m, o in second.entries.items()}


def _without_record(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


def _with_record(obj: dict[str, Any], managers: Managers) -> dict[str, Any]:
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields"}
    entries = managers.encoded()
    return {**obj, "metadata": {**meta, **({"managedFields": entries} if entries else {})}}
