"""The three-way merge of client-side apply: last applied, manifest and live object give a strategic merge patch.

What the manifest says and the live object does not hold is set; what was applied last and the manifest no longer says
is removed. Lists that Kubernetes merges by a key are merged element by element; others are replaced.
"""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tillerman.pb import options_pb2

Json = dict[str, Any]


def three_way(original: Json, wanted: Json, live: Json, schema: Descriptor | None) -> Json:
    """The patch; {} when nothing is to be done. Without a schema (custom resources) a plain merge patch."""
    patch: Json = ordered(combine(changes(live, wanted, schema), removals(original, wanted, live, schema)))
    return patch


def ordered(patch: Any) -> Any:
    """The elements of merged lists in the order that the patch itself demands: the server refuses another."""
    if isinstance(patch, list):
        return [ordered(element) for element in patch]
    if not isinstance(patch, dict):
        return patch
    out = {key: ordered(value) for key, value in patch.items()}
    for key, order in patch.items():
        name = key.removeprefix("$setElementOrder/")
        if name != key and isinstance(out.get(name), list):
            out[name].sort(key=lambda element: place(element, order))
    return out


def place(element: Json, order: list[Json]) -> int:
    """Where an order of {key: name} has an element; those that are deleted come last."""
    return next((i for i, entry in enumerate(order) if entry.items() <= element.items()), len(order))


class MapValues(dict[str, Any]):
    """The "fields" of a map: every key holds the same."""

    def __init__(self, value: FieldDescriptor) -> None:
        self.value = value

    def get(self, key: str, default: Any = None) -> Any:
        return self.value


def fields_of(schema: Descriptor | None) -> dict[str, Any]:
    """The fields by JSON name, those of inlined messages among them."""
    if schema is not None and schema.GetOptions().map_entry:
        return MapValues(schema.fields_by_name["value"])
    found: dict[str, Any] = {}
    for field in schema.fields if schema else ():
        if field.GetOptions().Extensions[options_pb2.k8s].inline:
            found |= fields_of(field.message_type)
        else:
            found[field.json_name] = field
    return found


def below(field: FieldDescriptor | None) -> Descriptor | None:
    """The schema of a field's value, or of its elements."""
    if field is None or field.message_type is None:
        return None
    return field.message_type


def merge_key(field: FieldDescriptor | None) -> str:
    """The key that identifies an element, "" for a list that is replaced; "*" for a merged list of scalars."""
    if field is None or not field.is_repeated:
        return ""
    facts = field.GetOptions().Extensions[options_pb2.k8s]
    if "merge" not in facts.patch_strategy:
        return ""
    return facts.merge_key or "*"


def changes(live: Json, wanted: Json, schema: Descriptor | None) -> Json:
    """What must be set so that live holds all that wanted says."""
    fields = fields_of(schema)
    out: Json = {}
    for key, value in wanted.items():
        if key in ("apiVersion", "kind") and key not in fields:
            continue
        if value is None:
            continue
        current, field = live.get(key), fields.get(key)
        if isinstance(value, dict) and isinstance(current, dict):
            if nested := changes(current, value, below(field)):
                out[key] = nested
        elif isinstance(value, list) and isinstance(current, list) and merge_key(field):
            out |= list_changes(key, current, value, field)
        elif not same(value, current, field):
            out[key] = value
    return out


def list_changes(key: str, live: list[Any], wanted: list[Any], field: FieldDescriptor | None) -> Json:
    identity = merge_key(field)
    if identity == "*":
        missing = [v for v in wanted if v not in live]
        return {key: missing} if missing else {}
    by_key = {e.get(identity): e for e in live if isinstance(e, dict)}
    elements = []
    for element in wanted:
        found = by_key.get(element.get(identity))
        if found is None:
            elements.append(element)
        elif nested := changes(found, element, below(field)):
            elements.append({identity: element[identity], **nested})
    out: Json = {key: elements} if elements else {}
    order = [{identity: e[identity]} for e in wanted if identity in e]
    live_order = [{identity: e[identity]} for e in live if identity in e]
    if elements or [o for o in live_order if o in order] != order:
        out[f"$setElementOrder/{key}"] = order
    return out


def removals(original: Json, wanted: Json, live: Json, schema: Descriptor | None) -> Json:
    """What was applied last, is no longer wanted, and is still there."""
    fields = fields_of(schema)
    out: Json = {}
    for key, value in original.items():
        if key not in live:
            continue
        if key not in wanted or wanted[key] is None:
            out[key] = None
            continue
        field, now, there = fields.get(key), wanted[key], live[key]
        if isinstance(value, dict) and isinstance(now, dict) and isinstance(there, dict):
            if nested := removals(value, now, there, below(field)):
                out[key] = nested
        elif isinstance(value, list) and isinstance(now, list) and isinstance(there, list) and merge_key(field):
            out |= list_removals(key, value, now, there, field)
    return out


def list_removals(
    key: str, original: list[Any], wanted: list[Any], live: list[Any], field: FieldDescriptor | None
) -> Json:
    identity = merge_key(field)
    if identity == "*":
        gone = [v for v in original if v not in wanted and v in live]
        return {f"$deleteFromPrimitiveList/{key}": gone} if gone else {}
    kept = {e.get(identity): e for e in wanted if isinstance(e, dict)}
    there = {e.get(identity): e for e in live if isinstance(e, dict)}
    elements: list[Json] = []
    for element in original:
        name = element.get(identity)
        if name not in there:
            continue
        if name not in kept:
            elements.append({identity: name, "$patch": "delete"})
        elif nested := removals(element, kept[name], there[name], below(field)):
            elements.append({identity: name, **nested})
    return {key: elements} if elements else {}


def combine(first: Any, second: Any) -> Any:
    """Two patches as one; elements of merged lists are joined by what identifies them."""
    out = dict(first)
    for key, value in second.items():
        if isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = combine(out[key], value)
        elif isinstance(value, list) and isinstance(out.get(key), list):
            out[key] = combine_lists(out[key], value)
        else:
            out[key] = value
    return out


def combine_lists(first: list[Any], second: list[Any]) -> list[Any]:
    joined = list(first)
    for element in second:
        identity = next(iter(element)) if isinstance(element, dict) else None
        for i, other in enumerate(joined):
            if identity and isinstance(other, dict) and other.get(identity) == element[identity]:
                joined[i] = combine(other, element)
                break
        else:
            joined.append(element)
    return joined


def same(wanted: Any, live: Any, field: FieldDescriptor | None) -> bool:
    """Equal, or two spellings of one quantity."""
    if wanted == live:
        return True
    if field is not None and "Quantity" in quantity_name(field) and live is not None:
        from tillerman.api.quantity import parse_quantity

        try:
            return parse_quantity(str(wanted)) == parse_quantity(str(live))
        except ValueError:
            return False
    return False


def quantity_name(field: FieldDescriptor) -> str:
    message = field.message_type
    return message.name if message is not None else ""
