"""CEL expressions of x-kubernetes-validations: what `self` looks like to them, compiling, evaluating.

The library is Google's own (cel-expr-python), loaded when the first rule is met: most clusters have none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from google.protobuf import duration_pb2, timestamp_pb2

from services.apiserver.crd.schema import Schema, child_of, embedded, properties
from tillerman.api import times
from tillerman.api.json_forms import parse_duration
from tillerman.api.quantity import parse_quantity

if TYPE_CHECKING:
    from cel_expr_python.cel import Env, Expression, Type

# What of metadata a rule may look at.
_META = ("name", "generateName")
_SELF, _OLD, _HAD = "self", "oldSelf", "__had_old_self__"
# Words that CEL keeps for itself; a field of such a name is written with two underscores around it.
_KEYWORDS = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_NAME = re.compile(r"[a-zA-Z_.\-/][a-zA-Z0-9_.\-/]*")

Shape = tuple[Any, ...]


class ExpressionError(ValueError):
    """An expression that does not compile, or that came to no value."""


def escaped(name: str) -> str | None:
    """A field's name as expressions spell it; None for one that they cannot name."""
    if _NAME.fullmatch(name) is None:
        return None
    if name in _KEYWORDS:
        return f"__{name}__"
    return re.sub(r"__|[.\-/]", lambda match: _ESCAPES[match[0]], name)


# -- types and values --------------------------------------------------------------------------------------------------


def shape_of(schema: Schema) -> Shape:
    """The CEL type of a schema's values, in words: ("list", ("int",))."""
    kind = schema.get("type")
    if schema.get("nullable") or schema.get("x-kubernetes-int-or-string") or kind is None:
        return ("dyn",)
    if kind == "string":
        return ({"date": "timestamp", "date-time": "timestamp", "duration": "duration"}.get(_format(schema), "string"),)
    if kind == "array":
        return ("list", shape_of(schema.get("items") or {}))
    if kind == "object":
        rest = schema.get("additionalProperties")
        return ("map", shape_of(rest) if isinstance(rest, Mapping) else ("dyn",))
    return ({"integer": "int", "number": "double", "boolean": "bool"}[kind],)


def _format(schema: Schema) -> str:
    return str(schema.get("format", ""))


def to_cel(value: Any, schema: Schema, *, root: bool = False) -> Any:
    """The value as an expression sees it: declared fields only, numbers and times by their schema's type."""
    kind = schema.get("type")
    if isinstance(value, dict):
        return _object_to_cel(value, schema, root=root)
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [to_cel(item, items) for item in value]
    if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "integer" and isinstance(value, float):
        return int(value)
    if kind == "string" and isinstance(value, str):
        return _text_to_cel(value, _format(schema))
    return value


def _object_to_cel(value: dict[str, Any], schema: Schema, *, root: bool) -> dict[str, Any]:
    known = properties(schema)
    found: dict[str, Any] = {}
    if root or embedded(schema):
        found = {name: value[name] for name in ("apiVersion", "kind") if name in value}
        meta = value.get("metadata") or {}
        found["metadata"] = {name: meta[name] for name in _META if name in meta}
    for name, item in value.items():
        if name in found:
            continue
        child = child_of(schema, name)
        if child is None:
            continue
        spelled = escaped(name) if name in known else name
        if spelled is not None:
            found[spelled] = to_cel(item, child)
    return found


def _text_to_cel(value: str, form: str) -> Any:
    try:
        if form in ("date", "date-time"):
            moment = times.parse_rfc3339(value if form == "date-time" else f"{value}T00:00:00Z")
            return timestamp_pb2.Timestamp(seconds=moment.seconds, nanos=moment.nanos)
        if form == "duration":
            duration = duration_pb2.Duration()
            duration.FromNanoseconds(parse_duration(value))
            return duration
    except ValueError:
        # The schema's own check says what is wrong with it.
        pass
    return value


# -- expressions -------------------------------------------------------------------------------------------------------


class Program:
    """A compiled expression over `self` and `oldSelf`."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression

    @property
    def returns(self) -> str:
        """The static type of its value: BOOL, STRING, DYN…"""
        return str(self._expression.return_type().name())

    def run(self, value: Any, old: Any = None, *, had_old: bool = False) -> Any:
        """The value for this `self`. Raises ExpressionError."""
        return evaluated(self._expression, {_SELF: value, _OLD: old, _HAD: had_old})


def evaluated(expression: Expression, data: dict[str, Any]) -> Any:
    """The expression's value. Raises ExpressionError."""
    from cel_expr_python.cel import Type

    try:
        result = expression.eval(data=data)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExpressionError(plain(str(error))) from error
    found = result.plain_value()
    if result.type() == Type.ERROR:
        raise ExpressionError(plain(str(found)))
    return found


def plain(text: str) -> str:
    """The library's complaint without its status code."""
    text = re.sub(r" \[[A-Z_]+\]$", "", text)
    text = re.sub(r"^[A-Z_]+: ", "", text)
    return text.replace("Key not found in map : ", "no such key: ")


def uses_old(expression: str) -> bool:
    """Whether the expression speaks of `oldSelf`."""
    without_text = re.sub(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""", "''", expression)
    return re.search(r"(?<![.\w])oldSelf\b", without_text) is not None


@lru_cache(maxsize=2048)
def compiled(expression: str, shape: Shape, optional_old: bool = False) -> Program:
    """Raises ExpressionError with the compiler's words. ``optional_old``: `oldSelf` is an optional value."""
    if optional_old:
        expression = f"cel.bind({_OLD}, {_HAD} ? optional.of({_OLD}) : optional.none(), {expression})"
    try:
        return Program(_environment(shape).compile(expression))
    except (RuntimeError, ValueError) as error:
        raise ExpressionError(f"compilation failed: {plain(str(error))}") from error


@lru_cache(maxsize=256)
def _environment(shape: Shape) -> Env:
    from cel_expr_python import cel

    own = _type(shape)
    return environment({_SELF: own, _OLD: own, _HAD: cel.Type.BOOL})


def environment(variables: dict[str, Type]) -> Env:
    """Where expressions over these variables compile: CEL's extensions and Kubernetes' own functions."""
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings

    return cel.NewEnv(
        variables=variables,
        extensions=[
            ext_strings.ExtStrings(),
            ext_bindings.ExtBindings(),
            ext_math.ExtMath(),
            ext_optional.ExtOptional(),
        ],
        functions=_functions(),
    )


def _type(shape: Shape) -> Type:
    from cel_expr_python.cel import Type

    if shape[0] == "list":
        return Type.List(_type(shape[1]))
    if shape[0] == "map":
        return Type.Map(Type.STRING, _type(shape[1]))
    found: Type = getattr(Type, shape[0].upper())
    return found


# -- Kubernetes' own functions -----------------------------------------------------------------------------------------


def _is_sorted(values: Sequence[Any]) -> bool:
    return all(first <= second for first, second in pairwise(values))


def _sum(values: Sequence[Any]) -> Any:
    return sum(values)


def _find(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str) -> list[str]:
    return [match[0] for match in re.finditer(pattern, text)]


def _holds(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _url(text: str) -> None:
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError(text)


def _cidr(text: str) -> None:
    if "/" not in text:
        raise ValueError(text)
    ipaddress.ip_interface(text)


def _functions() -> list[Any]:
    from cel_expr_python.cel import FunctionDecl, Overload, Type

    def member(name: str, implementation: Callable[..., Any], returns: Type, *parameters: Type) -> Any:
        words = "_".join(parameter.name().lower() for parameter in parameters)
        overload_id = re.sub(r"\W+", "_", f"tillerman_{name}_{words}")
        return Overload(overload_id, returns, list(parameters), True, implementation)

    dyn = Type.List(Type.DYN)
    declared = [
        FunctionDecl("isSorted", [member("is_sorted", _is_sorted, Type.BOOL, dyn)]),
        FunctionDecl("sum", [member("sum", _sum, Type.DYN, dyn)]),
        FunctionDecl("min", [member("min", min, Type.DYN, dyn)]),
        FunctionDecl("max", [member("max", max, Type.DYN, dyn)]),
        FunctionDecl("find", [member("find", _find, Type.STRING, Type.STRING, Type.STRING)]),
        FunctionDecl("findAll", [member("find_all", _find_all, Type.List(Type.STRING), Type.STRING, Type.STRING)]),
    ]
    for name, parse in (
        ("isURL", _url),
        ("isIP", ipaddress.ip_address),
        ("isCIDR", _cidr),
        ("isQuantity", parse_quantity),
    ):
        overload = Overload(f"tillerman_{name.lower()}_string", Type.BOOL, [Type.STRING], False, _holds(parse))
        declared.append(FunctionDecl(name, [overload]))
    return declared
