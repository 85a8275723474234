"""The JSON forms of messages that JSON does not show as objects: quantities, times, IntOrString, raw JSON, schemas.

A form is a pair of functions: `emit(message) -> JSON value` and `absorb(JSON value, message)`, which fills an empty
message and raises Mismatch (wrong JSON type) or ValueError (right type, bad content).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import orjson
from google.protobuf.message import Message

from tillerman.api import quantity, times
from tillerman.api.json_text import compact


class Mismatch(Exception):
    """A JSON value of the wrong type. `steps` collects the way to the root while the error travels up."""

    def __init__(self, value: object, go_type: str, reason: str = "") -> None:
        super().__init__()
        self.value = value
        self.go_type = go_type
        self.reason = reason
        self.struct = ""
        self.steps: list[str | int] = []


@dataclass(frozen=True, slots=True)
class Form:
    """How one message type looks in JSON; `zero` is what an unset struct of the type shows."""

    emit: Callable[[Any], Any]
    absorb: Callable[[Any, Any], None]
    zero: Any = None


def _emit_quantity(message: Any) -> str:
    return message.string or "0"


def _absorb_quantity(value: Any, message: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Mismatch(value, "resource.Quantity", quantity.BAD_SHAPE)
    try:
        message.string = quantity.stored(value.strip() if isinstance(value, str) else value)
    except ValueError as e:
        raise Mismatch(value, "resource.Quantity", str(e)) from None


def _emit_time(message: Any) -> str | None:
    return None if times.is_zero(message) else times.format_seconds(message.seconds)


def _absorb_time(value: Any, message: Any) -> None:
    message.seconds, _ = _split_time(value)
    message.nanos = 0


def _emit_micro_time(message: Any) -> str | None:
    return None if times.is_zero(message) else times.rfc3339(message)


def _absorb_micro_time(value: Any, message: Any) -> None:
    message.seconds, nanos = _split_time(value)
    message.nanos = nanos // 1000 * 1000


def _split_time(value: Any) -> tuple[int, int]:
    if type(value) is not str:
        raise Mismatch(value, "string")
    try:
        return times.split_rfc3339(value)
    except ValueError as e:
        raise Mismatch(value, "v1.Time", str(e)) from None


def _emit_int_or_string(message: Any) -> int | str:
    shown: int | str = message.strVal if message.type == 1 else message.intVal
    return shown


def _absorb_int_or_string(value: Any, message: Any) -> None:
    # Go writes all three fields, whichever of them carries the value.
    if type(value) is int and -(2**31) <= value < 2**31:
        message.type, message.intVal, message.strVal = 0, value, ""
    elif type(value) is str:
        message.type, message.intVal, message.strVal = 1, 0, value
    else:
        raise Mismatch(value, "int32" if type(value) in (int, float) else "intstr.IntOrString")


def _emit_raw(message: Any) -> Any:
    return orjson.loads(message.raw) if message.raw else None


def _absorb_raw(value: Any, message: Any) -> None:
    message.raw = compact(value).encode()


def _emit_fields(message: Any) -> Any:
    return orjson.loads(message.Raw) if message.Raw else None


def _absorb_fields(value: Any, message: Any) -> None:
    message.Raw = compact(value).encode()


def _emit_items(message: Any) -> list[str]:
    return list(message.items)


def _absorb_items(value: Any, message: Any) -> None:
    if type(value) is not list or not all(type(item) is str for item in value):
        raise Mismatch(value, "[]string")
    message.items.extend(value)


_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_NANOS_HOUR: Final = 3600 * 10**9


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h2m3.5s`. ValueError when it is not one."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, end = Decimal(0), 0
    for part in _DURATION_PART.finditer(rest):
        if part.start() != end:
            break
        total += Decimal(part[1].rstrip(".") or "0") * (_NANOS_HOUR if part[2] == "h" else _NANOS[part[2]])
        end = part.end()
    if not rest or end != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * int(total)


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < 10**9:
        unit, size = ("ns", 1) if left < 10**3 else ("µs", 10**3) if left < 10**6 else ("ms", 10**6)
        return f"{sign}{_trim(Decimal(left) / size)}{unit}"
    hours, left = divmod(left, _NANOS_HOUR)
    minutes, left = divmod(left, _NANOS["m"])
    seconds = _trim(Decimal(left) / 10**9)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}s"
    return f"{sign}{minutes}m{seconds}s" if minutes else f"{sign}{seconds}s"


def _trim(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _emit_duration(message: Any) -> str:
    return format_duration(message.duration)


def _absorb_duration(value: Any, message: Any) -> None:
    if type(value) is not str:
        raise Mismatch(value, "string")
    try:
        message.duration = parse_duration(value)
    except ValueError as e:
        raise Mismatch(value, "v1.Duration", str(e)) from None


_META: Final = "k8s.io.apimachinery.pkg.apis.meta.v1."
_ITEMS: Final = Form(_emit_items, _absorb_items)

# JSONSchemaPropsOrArray, OrBool and OrStringArray hold nested schemas, so plans.py builds their forms.
FORMS: Final[dict[str, Form]] = {
    "k8s.io.apimachinery.pkg.api.resource.Quantity": Form(_emit_quantity, _absorb_quantity, "0"),
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": Form(_emit_int_or_string, _absorb_int_or_string, 0),
    _META + "Time": Form(_emit_time, _absorb_time),
    _META + "MicroTime": Form(_emit_micro_time, _absorb_micro_time),
    _META + "Duration": Form(_emit_duration, _absorb_duration, "0s"),
    _META + "FieldsV1": Form(_emit_fields, _absorb_fields),
    _META + "Verbs": _ITEMS,
    "k8s.io.apimachinery.pkg.runtime.RawExtension": Form(_emit_raw, _absorb_raw),
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON": Form(_emit_raw, _absorb_raw),
    "k8s.io.api.authentication.v1.ExtraValue": _ITEMS,
    "k8s.io.api.authentication.v1.AttestationValue": _ITEMS,
    "k8s.io.api.authorization.v1.ExtraValue": _ITEMS,
    "k8s.io.api.certificates.v1.ExtraValue": _ITEMS,
}

SCHEMA: Final = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


def schema_forms(emit: Callable[[Message], dict[str, Any]], absorb: Callable[[Any, Message], None]) -> dict[str, Form]:
    """The three union types of a CRD schema, over the plain JSONSchemaProps form passed in."""

    def emit_or_array(message: Any) -> Any:
        if message.jSONSchemas:
            return [emit(item) for item in message.jSONSchemas]
        return emit(message.schema) if message.HasField("schema") else None

    def absorb_or_array(value: Any, message: Any) -> None:
        if type(value) is list:
            for item in value:
                absorb(item, message.jSONSchemas.add())
        else:
            message.schema.SetInParent()
            absorb(value, message.schema)

    def emit_or_bool(message: Any) -> Any:
        return emit(message.schema) if message.HasField("schema") else bool(message.allows)

    def absorb_or_bool(value: Any, message: Any) -> None:
        if type(value) is bool:
            message.allows = value
        elif type(value) is dict:
            message.allows = True
            message.schema.SetInParent()
            absorb(value, message.schema)
        else:
            raise Mismatch(value, "v1.JSONSchemaPropsOrBool", "boolean or JSON schema expected")

    def emit_or_strings(message: Any) -> Any:
        if message.property:
            return list(message.property)
        return emit(message.schema) if message.HasField("schema") else None

    def absorb_or_strings(value: Any, message: Any) -> None:
        if type(value) is list:
            message.property.extend(value)
        else:
            message.schema.SetInParent()
            absorb(value, message.schema)

    return {
        SCHEMA + "OrArray": Form(emit_or_array, absorb_or_array),
        SCHEMA + "OrBool": Form(emit_or_bool, absorb_or_bool),
        SCHEMA + "OrStringArray": Form(emit_or_strings, absorb_or_strings),
    }
