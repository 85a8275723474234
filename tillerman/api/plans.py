"""Compiled conversions: one Plan per message type, built from its descriptor when first used and kept.

What Go's encoder does with a field follows from the field's options (see options.proto): pointers are shown when
present, plain scalars when not zero, plain structs always, `always` fields even when empty. Going the other way, a
zero that Go could not tell from absence is left out, so equal objects have equal messages.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tillerman.api.json_forms import FORMS, SCHEMA, Form, Mismatch, schema_forms
from tillerman.api.scheme import SCHEME
from tillerman.pb import options_pb2

Unknown = list[str] | None
Emitter = Callable[[Any], Any]
Decoder = Callable[[Any, Any, Unknown], None]

_INTS: Final = {
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_FLOATS: Final = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
# Embedded objects that carry their own apiVersion and kind.
_TYPED_FIELDS: Final = ("k8s.io.api.apps.v1.StatefulSetSpec.volumeClaimTemplates",)


class Plan:
    """How one message type turns into a dict and back."""

    __slots__ = ("decoders", "defaults", "emitters", "go_name", "ignored", "lifted", "name")

    def __init__(self, descriptor: Any) -> None:
        self.name = descriptor.name
        self.go_name = f"{descriptor.full_name.split('.')[-2]}.{descriptor.name}"
        self.emitters: dict[FieldDescriptor, tuple[str, Emitter | None, bool]] = {}
        self.lifted: dict[FieldDescriptor, Plan] = {}
        self.decoders: dict[str, Decoder] = {}
        self.defaults: list[tuple[str, Callable[[], Any]]] = []
        self.ignored: tuple[str, ...] = ()

    def emit(self, message: Message) -> dict[str, Any]:
        """The JSON form of a message, without apiVersion and kind."""
        out: dict[str, Any] = {}
        emitters = self.emitters
        for field, value in message.ListFields():
            entry = emitters.get(field)
            if entry is None:
                out.update(self.lifted[field].emit(value))
                continue
            name, convert, skip_zero = entry
            if convert is None:
                if value or not skip_zero:
                    out[name] = value
            else:
                shown = convert(value)
                if shown is not None or not skip_zero:
                    out[name] = shown
        for name, default in self.defaults:
            if name not in out:
                out[name] = default()
        return out

    def empty(self) -> dict[str, Any]:
        """What a struct with nothing set shows."""
        return {name: default() for name, default in self.defaults}

    def absorb(self, data: Any, message: Message, unknown: Unknown) -> None:
        """Fills an empty message. Unknown keys are appended to `unknown` (paths relative to here), or ignored."""
        if type(data) is not dict:
            raise Mismatch(data, self.go_name)
        decoders = self.decoders
        for key, value in data.items():
            decode = decoders.get(key)
            if decode is None:
                if unknown is not None and key not in self.ignored:
                    unknown.append(key)
            elif value is not None:
                try:
                    decode(message, value, unknown)
                except Mismatch as e:
                    if not e.struct:
                        e.struct = self.name
                    e.steps.append(key)
                    raise


_plans: dict[str, Plan] = {}


def plan_of(descriptor: Any) -> Plan:
    """The compiled plan of a message type."""
    plan = _plans.get(descriptor.full_name)
    if plan is None:
        plan = _plans[descriptor.full_name] = Plan(descriptor)
        try:
            SCHEME.kind_of_name(descriptor.full_name)
            plan.ignored = ("apiVersion", "kind")
        except LookupError:
            pass
        for field in descriptor.fields:
            _compile(plan, field)
    return plan


def form_of(descriptor: Any) -> Form | None:
    """The special form of a message type, if JSON does not show it as an object."""
    form = FORMS.get(descriptor.full_name)
    if form is None and descriptor.full_name.startswith(SCHEMA + "Or"):
        schema = plan_of(descriptor.fields_by_name["schema"].message_type)
        FORMS.update(schema_forms(schema.emit, lambda value, message: schema.absorb(value, message, None)))
        form = FORMS[descriptor.full_name]
    return form


def _compile(plan: Plan, field: FieldDescriptor) -> None:
    options = field.GetOptions().Extensions[options_pb2.k8s]
    name = field.json_name
    child = field.message_type
    if child is not None and child.GetOptions().map_entry:
        plan.emitters[field] = (name, _map_emitter(field), False)
        plan.decoders[name] = _map_decoder(field)
        if options.always:
            plan.defaults.append((name, _nothing))
    elif field.is_repeated:
        plan.emitters[field] = (name, _list_emitter(field), False)
        plan.decoders[name] = _list_decoder(field)
        if options.always:
            plan.defaults.append((name, list if plan.name.endswith("List") and name == "items" else _nothing))
    elif child is None:
        _compile_scalar(plan, field, pointer=options.pointer, always=options.always)
    elif options.inline:
        inner = plan_of(child)
        plan.lifted[field] = inner
        for key, decode in inner.decoders.items():
            plan.decoders[key] = _lift(field.name, decode)
        plan.defaults.extend(inner.defaults)
    elif form := form_of(child):
        plan.emitters[field] = (name, form.emit, bool(options.omit_zero))
        plan.decoders[name] = _form_decoder(field.name, form)
        if options.pointer and options.always:
            plan.defaults.append((name, _nothing))
        elif not options.pointer and not options.omit_zero:
            plan.defaults.append((name, _constant(form.zero)))
    else:
        _compile_message(plan, field, options)


def _compile_message(plan: Plan, field: FieldDescriptor, options: options_pb2.FieldFacts) -> None:
    inner, name = plan_of(field.message_type), field.json_name
    emit: Emitter = (lambda value: inner.emit(value) or None) if options.omit_zero else inner.emit
    plan.emitters[field] = (name, emit, bool(options.omit_zero))
    plan.decoders[name] = _message_decoder(field.name, name, inner)
    if options.pointer and options.always:
        plan.defaults.append((name, _nothing))
    elif not options.pointer and not options.omit_zero:
        plan.defaults.append((name, inner.empty))


def _compile_scalar(plan: Plan, field: FieldDescriptor, *, pointer: bool, always: bool) -> None:
    name, attribute = field.json_name, field.name
    check = _scalar_check(field)
    is_bytes = field.type == FieldDescriptor.TYPE_BYTES
    plan.emitters[field] = (name, _scalar_emitter(field), not pointer and not always)

    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        checked = check(value)
        if checked or pointer:
            setattr(message, attribute, checked)

    plan.decoders[name] = decode
    if always:
        zero = None if pointer or is_bytes else field.default_value
        plan.defaults.append((name, _constant(zero)))


def _nothing() -> None:
    return None


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _emit_bytes(value: bytes) -> str | None:
    return base64.b64encode(value).decode() if value else None


def _emit_float(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _scalar_emitter(field: FieldDescriptor) -> Emitter | None:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _emit_bytes
    return _emit_float if field.type in _FLOATS else None


def _scalar_check(field: FieldDescriptor) -> Callable[[Any], Any]:
    """A function that returns the value to set, or raises Mismatch."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return _check_string
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _check_bool
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _check_bytes
    if field.type in _FLOATS:
        return _check_float
    go_type, low, high = _INTS[field.type]

    def check_int(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise Mismatch(value, go_type)

    return check_int


def _check_string(value: Any) -> str:
    if type(value) is not str:
        raise Mismatch(value, "string")
    return value


def _check_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Mismatch(value, "bool")
    return value


def _check_float(value: Any) -> float:
    if type(value) not in (int, float):
        raise Mismatch(value, "float64")
    return float(value)


def _check_bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise Mismatch(value, "[]uint8")
    try:
        # Go's decoder skips line breaks and nothing else.
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        raise Mismatch(value, "[]uint8", "illegal base64 data") from None


def _prefix(unknown: list[str], since: int, step: str) -> None:
    for i in range(since, len(unknown)):
        unknown[i] = f"{step}.{unknown[i]}"


def _message_decoder(attribute: str, name: str, inner: Plan) -> Decoder:
    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        target = getattr(message, attribute)
        target.SetInParent()
        if unknown is None:
            inner.absorb(value, target, None)
        else:
            since = len(unknown)
            inner.absorb(value, target, unknown)
            if len(unknown) > since:
                _prefix(unknown, since, name)

    return decode


def _form_decoder(attribute: str, form: Form) -> Decoder:
    absorb = form.absorb

    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        target = getattr(message, attribute)
        target.SetInParent()
        absorb(value, target)

    return decode


def _lift(attribute: str, decode: Decoder) -> Decoder:
    def lifted(message: Any, value: Any, unknown: Unknown) -> None:
        decode(getattr(message, attribute), value, unknown)

    return lifted


def _list_emitter(field: FieldDescriptor) -> Emitter:
    if field.message_type is None:
        convert = _scalar_emitter(field)
        return list if convert is None else (lambda values: [convert(v) for v in values])
    form = form_of(field.message_type)
    if form is None:
        emit: Emitter = plan_of(field.message_type).emit
        if field.full_name in _TYPED_FIELDS:
            api_version, kind = SCHEME.kind_of_name(field.message_type.full_name)
            return lambda values: [{"kind": kind, "apiVersion": api_version, **emit(v)} for v in values]
    else:
        emit = form.emit
    return lambda values: [emit(v) for v in values]


def _list_decoder(field: FieldDescriptor) -> Decoder:
    attribute, name = field.name, field.json_name
    if field.message_type is None:
        return _scalar_list_decoder(field)
    form = form_of(field.message_type)
    inner = None if form else plan_of(field.message_type)
    go_type = f"[]{field.message_type.full_name.split('.')[-2]}.{field.message_type.name}"

    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        if type(value) is not list:
            raise Mismatch(value, go_type)
        items = getattr(message, attribute)
        for i, item in enumerate(value):
            target = items.add()
            if item is None:
                continue
            try:
                if inner is None:
                    form.absorb(item, target)  # type: ignore[union-attr]
                elif unknown is None:
                    inner.absorb(item, target, None)
                else:
                    since = len(unknown)
                    inner.absorb(item, target, unknown)
                    if len(unknown) > since:
                        _prefix(unknown, since, f"{name}[{i}]")
            except Mismatch as e:
                e.steps.append(i)
                raise

    return decode


def _scalar_list_decoder(field: FieldDescriptor) -> Decoder:
    attribute, check, zero = field.name, _scalar_check(field), _zero(field)
    go_type = f"[]{_go_scalar(field)}"

    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        if type(value) is not list:
            raise Mismatch(value, go_type)
        checked = []
        for i, item in enumerate(value):
            try:
                checked.append(zero if item is None else check(item))
            except Mismatch as e:
                e.steps.append(i)
                raise
        getattr(message, attribute).extend(checked)

    return decode


def _zero(field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return ""
    return b"" if field.type == FieldDescriptor.TYPE_BYTES else False if field.type == FieldDescriptor.TYPE_BOOL else 0


def _go_scalar(field: FieldDescriptor) -> str:
    if field.type in _INTS:
        return _INTS[field.type][0]
    return {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_BYTES: "[]uint8"}.get(field.type, "bool")


def _map_emitter(field: FieldDescriptor) -> Emitter:
    child: Any = field.message_type
    entry = child.fields_by_name["value"]
    if entry.message_type is None:
        if entry.type == FieldDescriptor.TYPE_BYTES:
            return lambda values: {k: base64.b64encode(v).decode() for k, v in values.items()}
        return dict
    form = form_of(entry.message_type)
    emit: Emitter = form.emit if form else plan_of(entry.message_type).emit
    return lambda values: {k: emit(v) for k, v in values.items()}


def _map_decoder(field: FieldDescriptor) -> Decoder:
    attribute, name = field.name, field.json_name
    child: Any = field.message_type
    entry = child.fields_by_name["value"]
    if entry.message_type is None:
        check, zero, go_type = _scalar_check(entry), _zero(entry), f"map[string]{_go_scalar(entry)}"
        form = inner = None
    else:
        form = form_of(entry.message_type)
        inner = None if form else plan_of(entry.message_type)
        go_type = f"map[string]{entry.message_type.full_name.split('.')[-2]}.{entry.message_type.name}"

    def fill(values: Any, key: str, item: Any, unknown: Unknown) -> None:
        if form is not None:
            form.absorb("0" if item is None and form.zero == "0" else item, values[key])
        elif inner is not None:
            target = values[key]
            if item is not None:
                since = len(unknown) if unknown is not None else 0
                inner.absorb(item, target, unknown)
                if unknown is not None:
                    _prefix(unknown, since, f"{name}.{key}")
        else:
            values[key] = zero if item is None else check(item)

    def decode(message: Any, value: Any, unknown: Unknown) -> None:
        if type(value) is not dict:
            raise Mismatch(value, go_type)
        values = getattr(message, attribute)
        for key, item in value.items():
            try:
                fill(values, key, item, unknown)
            except Mismatch as e:
                e.steps.append(f"[{key}]")
                raise

    return decode
