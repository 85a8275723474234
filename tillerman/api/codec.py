"""Objects between protobuf messages and their JSON form, by Kubernetes' rules."""

import json
from typing import Any

import orjson
from google.protobuf.message import DecodeError as ProtoDecodeError
from google.protobuf.message import Message

from tillerman.api.json_forms import Mismatch
from tillerman.api.json_syntax import syntax_error
from tillerman.api.plans import plan_of
from tillerman.api.quantity_fields import check_quantities
from tillerman.api.scheme import SCHEME
from tillerman.api.text import is_text, not_text

__all__ = [
    "DecodeError",
    "from_dict",
    "from_json",
    "from_protobuf",
    "json_type",
    "load_json_checked",
    "to_dict",
    "to_json",
]


class DecodeError(ValueError):
    """Input that is not the object it should be. `errors` holds one text per fault, `strict` tells which check."""

    def __init__(self, errors: list[str], *, strict: bool = False) -> None:
        super().__init__(("strict decoding error: " if strict else "") + ", ".join(errors))
        self.errors = errors
        self.strict = strict


def to_dict(message: Message, *, kind: tuple[str, str] | None = None) -> dict[str, Any]:
    """The JSON form. apiVersion and kind come first where the message is a kind (or as `kind` says)."""
    descriptor = message.DESCRIPTOR
    body = plan_of(descriptor).emit(message)
    if kind is None:
        try:
            kind = SCHEME.kind_of_name(descriptor.full_name)
        except LookupError:
            return body
    return {"apiVersion": kind[0], "kind": kind[1], **body}


def to_json(message: Message, *, kind: tuple[str, str] | None = None) -> bytes:
    """Compact UTF-8 JSON."""
    encoded: bytes = orjson.dumps(to_dict(message, kind=kind))
    return encoded


def from_dict(
    data: Any,
    message_type: type[Message] | None = None,
    *,
    strict: bool = False,
    unknown: list[str] | None = None,
) -> Message:
    """The message of a JSON form; its type is found from apiVersion and kind when not given.

    Unknown fields are ignored; with `strict` they are refused; with a list passed as `unknown` each is appended to it
    as `unknown field "spec.foo"` (for warnings). Raises DecodeError.
    """
    if message_type is None:
        message_type = _type_of(data)
    message = message_type()
    found: list[str] | None = [] if strict or unknown is not None else None
    plan = plan_of(message_type.DESCRIPTOR)
    try:
        plan.absorb(data, message, found)
    except Mismatch as e:
        raise DecodeError([_describe(e)]) from None
    except UnicodeEncodeError:
        raise DecodeError(["json: invalid UTF-8 in string"]) from None
    if found:
        faults = [f'unknown field "{path}"' for path in found]
        if strict:
            raise DecodeError(faults, strict=True)
        if unknown is not None:
            unknown.extend(faults)
    return message


def from_json(
    data: bytes,
    message_type: type[Message] | None = None,
    *,
    strict: bool = False,
    unknown: list[str] | None = None,
) -> Message:
    """Like from_dict, from JSON text. Duplicate fields are refused when strict and reported like unknown ones."""
    if not strict and unknown is None:
        return from_dict(_loads(data), message_type)
    parsed, duplicates = load_json_checked(data)
    faults: list[str] = []
    message = from_dict(parsed, message_type, unknown=faults)
    faults += [f'duplicate field "{path}"' for path in duplicates]
    if faults and strict:
        raise DecodeError(faults, strict=True)
    if unknown is not None:
        unknown.extend(faults)
    return message


def from_protobuf(raw: bytes, message_type: type[Message]) -> Message:
    """The message of protobuf bytes from a caller. Raises DecodeError, also for strings that are not UTF-8 and for
    quantities that are none.

    Kubernetes' messages are proto2, whose decoder lets such strings pass; as text they cannot be shown.
    """
    try:
        message = message_type.FromString(raw)
    except ProtoDecodeError as e:
        raise DecodeError([f"the object's bytes are not a {message_type.DESCRIPTOR.full_name}: {e}"]) from None
    if not is_text(raw, message_type) and (path := not_text(message)):
        raise DecodeError([f"{path}: invalid UTF-8 in string"])
    if fault := check_quantities(message, raw):
        raise DecodeError([fault])
    # Go's decoder drops what it does not know; kept, it would be stored.
    message.DiscardUnknownFields()
    return message


class _Repeated(dict[str, Any]):
    """An object in which some keys stood more than once."""

    repeated: list[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    marked = _Repeated(plain)
    seen: set[str] = set()
    marked.repeated = []
    for key, _ in pairs:
        if key in seen and key not in marked.repeated:
            marked.repeated.append(key)
        seen.add(key)
    return marked


def load_json_checked(data: bytes) -> tuple[Any, list[str]]:
    """(parsed, paths of the fields that stand more than once, such as `spec.replicas`). Raises DecodeError."""
    try:
        orjson.loads(data)
        parsed = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as e:
        raise DecodeError([f"couldn't get version/kind; json parse error: {syntax_error(data) or e}"]) from None
    paths: list[str] = []
    return _plain(parsed, "", paths), paths


def _plain(value: Any, path: str, repeated: list[str]) -> Any:
    if isinstance(value, dict):
        dot = f"{path}." if path else ""
        if isinstance(value, _Repeated):
            repeated.extend(dot + key for key in value.repeated)
        return {key: _plain(item, dot + key, repeated) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f"{path}[{i}]", repeated) for i, item in enumerate(value)]
    return value


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError as e:
        raise DecodeError([f"couldn't get version/kind; json parse error: {syntax_error(data) or e}"]) from None


def _type_of(data: Any) -> type[Message]:
    if type(data) is not dict:
        raise DecodeError([f"json: cannot unmarshal {json_type(data)} into Go value of type runtime.TypeMeta"])
    kind, api_version = data.get("kind"), data.get("apiVersion")
    if type(kind) is not str or not kind:
        raise DecodeError([f"Object 'Kind' is missing in '{json.dumps(data)[:200]}'"])
    if type(api_version) is not str or not api_version:
        raise DecodeError([f"Object 'apiVersion' is missing in '{json.dumps(data)[:200]}'"])
    try:
        return SCHEME.message_type(api_version, kind)
    except LookupError as e:
        raise DecodeError([str(e)]) from None


def json_type(value: Any) -> str:
    """What Go calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return (
        "string"
        if isinstance(value, str)
        else "array"
        if isinstance(value, list)
        else "object"
        if value is not None
        else "null"
    )


def _describe(error: Mismatch) -> str:
    """The fault in the words of Go's decoder, or with the exact place where the content is what is wrong."""
    steps = list(reversed(error.steps))
    if error.reason:
        return f"{_place(steps)}: {error.reason}"
    shown = json_type(error.value)
    if shown == "number" and error.go_type.startswith(("int", "uint")):
        shown = f"number {error.value}"
    if not steps:
        return f"json: cannot unmarshal {shown} into Go value of type {error.go_type}"
    fields = ".".join(step for step in steps if isinstance(step, str) and not step.startswith("["))
    return f"json: cannot unmarshal {shown} into Go struct field {error.struct}.{fields} of type {error.go_type}"


def _place(steps: list[str | int]) -> str:
    place = ""
    for step in steps:
        if isinstance(step, int):
            place += f"[{step}]"
        elif step.startswith("["):
            place += step
        else:
            place += f".{step}" if place else step
    return place
