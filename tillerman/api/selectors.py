"""Label selectors and field selectors: parsing, matching, canonical text."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tillerman.api.validation import is_label_value, is_qualified_name
from tillerman.pb.k8s import meta_v1_pb2 as meta

Operator = Literal["=", "!=", "in", "notin", "exists", "!", ">", "<"]

_TOKEN: Final = re.compile(r"\s*([^\s(),!=<>]+|==|!=|[(),!=<>])\s*")
_INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `in` and `=` need the label; `!=` and `notin` also hold when it is absent."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        if self.operator in ("=", "in"):
            return found is not None and found in self.values
        if self.operator in ("!=", "notin"):
            return found is None or found not in self.values
        if self.operator == "exists":
            return found is not None
        if self.operator == "!":
            return found is None
        if found is None or not _INTEGER.fullmatch(found):
            return False
        number, bound = int(found), int(self.values[0])
        return number > bound if self.operator == ">" else number < bound

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        if self.operator in ("in", "notin"):
            return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return f"{self.key}{self.operator}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A conjunction of requirements; without any it matches everything, unless it is NOTHING."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether it matches everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(r.matches(labels) for r in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


EVERYTHING: Final = LabelSelector()
NOTHING: Final = LabelSelector(nothing=True)


def parse_label_selector(text: str) -> LabelSelector:
    """Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`. ValueError says what is wrong where."""
    return _LabelParser(text).parse()


class _LabelParser:
    """Goes through the tokens as Kubernetes does: what is refused, and with which words, is the same."""

    def __init__(self, text: str) -> None:
        self._tokens = [match[1] for match in _TOKEN.finditer(text)]
        self._at = 0

    def parse(self) -> LabelSelector:
        requirements: list[Requirement] = []
        while token := self._peek():
            if token != "!" and not _is_identifier(token):
                raise ValueError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from error
            if not (token := self._next()):
                break
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            following = self._peek()
            if following != "!" and not _is_identifier(following):
                raise ValueError(f"found '{following}', expected: identifier after ','")
        return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "!")
        key = self._key()
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        operator = self._next()
        if operator in ("in", "notin"):
            return Requirement(key, "in" if operator == "in" else "notin", self._values(key))
        if operator in ("=", "=="):
            return Requirement(key, "=", (self._value(key),))
        if operator == "!=":
            return Requirement(key, "!=", (self._value(key),))
        if operator in ("<", ">"):
            return Requirement(key, ">" if operator == ">" else "<", (self._bound(key),))
        raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _identifier(self) -> str:
        token = self._next()
        if not _is_identifier(token):
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _key(self) -> str:
        key = self._identifier()
        if errors := is_qualified_name(key):
            raise ValueError(f'<nil>: Invalid value: "{key}": {"; ".join(errors)}')
        return key

    def _value(self, key: str) -> str:
        value = "" if self._peek() in ("", ",") else self._identifier()
        _check_values(key, (value,))
        return value

    def _bound(self, key: str) -> str:
        bound = "" if self._peek() in ("", ",") else self._identifier()
        if not _INTEGER.fullmatch(bound):
            raise ValueError("for 'Gt', 'Lt' operators, the value must be an integer")
        _check_values(key, (bound,))
        return bound

    def _values(self, key: str) -> tuple[str, ...]:
        if (token := self._next()) != "(":
            raise ValueError(f"found '{token}' expected: '('")
        token = self._peek()
        if token != ")" and token != "," and not _is_identifier(token):
            raise ValueError(f"found '{token}', expected: ',', ')' or identifier")
        values = ("",) if token == ")" else tuple(sorted(self._list()))
        self._next()
        _check_values(key, values)
        return values

    def _list(self) -> set[str]:
        """What stands before the closing bracket. A value may be empty: `(,a)`, `(a,)`, `(a,,b)`."""
        values: set[str] = set()
        while True:
            token = self._next()
            if _is_identifier(token):
                values.add(token)
                following = self._peek()
                if following == ")":
                    return values
                if following != ",":
                    raise ValueError(f"found '{following}', expected: ',' or ')'")
            elif token == ",":
                following = self._peek()
                if not values or following in (",", ")"):
                    values.add("")
                if following == ")":
                    return values
                if following == ",":
                    self._next()
            else:
                raise ValueError(f"found '{token}', expected: ',', or identifier")


def _is_identifier(token: str) -> bool:
    return token != "" and token[0] not in "(),!=<>"


def _check_values(key: str, values: tuple[str, ...]) -> None:
    for index, value in enumerate(values):
        if errors := is_label_value(value):
            raise ValueError(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(errors)}')


_MESSAGE_OPERATORS: Final[dict[str, Operator]] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
    "Gt": ">",
    "Lt": "<",
}


def from_message(selector: meta.LabelSelector | None) -> LabelSelector:
    """The selector of a spec. None matches nothing, an empty one everything. ValueError on an unknown operator."""
    if selector is None:
        return NOTHING
    requirements = [Requirement(key, "=", (value,)) for key, value in selector.matchLabels.items()]
    for expression in selector.matchExpressions:
        if expression.operator not in _MESSAGE_OPERATORS:
            raise ValueError(f'"{expression.operator}" is not a valid label selector operator')
        requirements.append(
            Requirement(expression.key, _MESSAGE_OPERATORS[expression.operator], tuple(expression.values))
        )
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def from_map(labels: Mapping[str, str]) -> LabelSelector:
    """The selector of a Service or ReplicationController: an empty one selects nothing."""
    if not labels:
        return NOTHING
    return LabelSelector(tuple(Requirement(key, "=", (value,)) for key, value in sorted(labels.items())))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """A conjunction of (path, "=" or "!=", value)."""

    requirements: tuple[tuple[str, Literal["=", "!="], str], ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, get: Callable[[str], str]) -> bool:
        """`get` returns the object's value of a path, "" when it is not set."""
        return all((get(path) == value) == (operator == "=") for path, operator, value in self.requirements)

    def required(self, path: str) -> str | None:
        """The value that `path` must be equal to, if there is such a requirement."""
        return next((value for p, operator, value in self.requirements if p == path and operator == "="), None)

    def __str__(self) -> str:
        return ",".join(f"{path}{operator}{_escape(value)}" for path, operator, value in self.requirements)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


_FIELD_END: Final = re.compile(r"\\.|,", re.DOTALL)
_FIELD_OPERATOR: Final = re.compile(r"!=|==|=")
_FIELD_VALUE: Final = re.compile(r"\\.?|[^\\]", re.DOTALL)


def _field_terms(text: str) -> list[str]:
    """What stands between commas, those that follow a backslash aside."""
    terms, start = [], 0
    for match in _FIELD_END.finditer(text):
        if match[0] == ",":
            terms.append(text[start : match.start()])
            start = match.end()
    return [*terms, text[start:]]


def parse_field_selector(text: str) -> FieldSelector:
    """Parses `status.phase=Running,spec.nodeName!=n1`. ValueError names the term that is none."""
    requirements: list[tuple[str, Literal["=", "!="], str]] = []
    for term in _field_terms(text):
        if not term:
            continue
        match = _FIELD_OPERATOR.search(term)
        if match is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        value = _unescaped(term[match.end() :])
        requirements.append((term[: match.start()], "!=" if match[0] == "!=" else "=", value))
    return FieldSelector(tuple(requirements))


def _unescaped(value: str) -> str:
    """A value without the backslashes before what would end it. ValueError for one that lacks them, or has others."""
    letters = []
    for letter in _FIELD_VALUE.findall(value):
        if letter in (",", "="):
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(letter)}")
        if letter[0] == "\\" and letter[1:] not in ("\\", ",", "="):
            raise ValueError(f"invalid field selector: invalid escape sequence: {letter}")
        letters.append(letter[-1])
    return "".join(letters)
