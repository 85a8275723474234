"""Label selectors ("a=b,c in (d,e),!f") and field selectors ("spec.nodeName=n,status.phase!=Failed")."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tillerman.pb.k8s import meta_v1_pb2 as meta

TOKEN = re.compile(r"\s*(?:(!=|==|=|!|,|\(|\)|<|>)|([^\s!=,()<>]+))")


@dataclass(frozen=True, slots=True)
class Requirement:
    """key, operator ("=", "!=", "in", "notin", "exists", "!", ">", "<") and values."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        present = self.key in labels
        if self.operator in ("=", "in"):
            return present and labels[self.key] in self.values
        if self.operator in ("!=", "notin"):
            return not present or labels[self.key] not in self.values
        if self.operator == "exists":
            return present
        if self.operator == "!":
            return not present
        try:
            left, right = int(labels.get(self.key, "")), int(self.values[0])
        except ValueError:
            return False
        return left > right if self.operator == ">" else left < right

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
    """All requirements hold. NOTHING matches no object at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(r.matches(labels) for r in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


NOTHING = LabelSelector(nothing=True)


def parse_label_selector(text: str) -> LabelSelector:
    """Raises ValueError with Kubernetes' words."""
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = TOKEN.match(text, position)
        if not match:
            raise ValueError(f"unable to parse requirement: found '{text[position]}', expected: identifier")
        tokens.append(match[1] or match[2])
        position = match.end()
    requirements: list[Requirement] = []
    rest = tokens
    while rest:
        requirement, rest = parse_requirement(rest)
        requirements.append(requirement)
        if rest:
            if rest[0] != ",":
                raise ValueError(f"found '{rest[0]}', expected: ',' or 'end of string'")
            rest = rest[1:]
            if not rest:
                raise ValueError("found '', expected: identifier after ','")
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def parse_requirement(tokens: list[str]) -> tuple[Requirement, list[str]]:
    if tokens[0] == "!":
        if len(tokens) < 2:
            raise ValueError("unable to parse requirement: found '', expected: identifier")
        return Requirement(checked_key(tokens[1]), "!"), tokens[2:]
    key = checked_key(tokens[0])
    if len(tokens) == 1 or tokens[1] == ",":
        return Requirement(key, "exists"), tokens[1:]
    operator = tokens[1]
    if operator in ("=", "==", "!="):
        value = tokens[2] if len(tokens) > 2 and tokens[2] != "," else ""
        rest = tokens[3:] if value else tokens[2:]
        return Requirement(key, "!=" if operator == "!=" else "=", (checked_value(key, value),)), rest
    if operator in ("<", ">"):
        if len(tokens) < 3 or not re.fullmatch(r"-?\d+", tokens[2]):
            raise ValueError("for 'Gt', 'Lt' operators, the value must be an integer")
        return Requirement(key, operator, (tokens[2],)), tokens[3:]
    if operator in ("in", "notin"):
        if len(tokens) < 3 or tokens[2] != "(":
            raise ValueError(f"found '{tokens[2] if len(tokens) > 2 else ''}', expected: '('")
        if ")" not in tokens:
            raise ValueError("found '', expected: ',', or ')'")
        end = tokens.index(")")
        values = tuple(checked_value(key, t) for t in tokens[3:end] if t != ",") or ("",)
        return Requirement(key, operator, values), tokens[end + 1 :]
    raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")


def checked_key(key: str) -> str:
    from tillerman.api.validation import is_qualified_name

    if problems := is_qualified_name(key):
        raise ValueError(f'unable to parse requirement: <nil>: Invalid value: "{key}": {"; ".join(problems)}')
    return key


def checked_value(key: str, value: str) -> str:
    from tillerman.api.validation import is_label_value

    if problems := is_label_value(value):
        raise ValueError(
            f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": {"; ".join(problems)}'
        )
    return value


OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": ">", "Lt": "<"}


def from_message(selector: meta.LabelSelector | None) -> LabelSelector:
    """A meta/v1 LabelSelector: none selects nothing, an empty one everything. Raises ValueError for a bad operator."""
    if selector is None:
        return NOTHING
    requirements = [Requirement(k, "=", (v,)) for k, v in selector.matchLabels.items()]
    for expression in selector.matchExpressions:
        if expression.operator not in OPERATORS:
            raise ValueError(f'"{expression.operator}" is not a valid label selector operator')
        requirements.append(Requirement(expression.key, OPERATORS[expression.operator], tuple(expression.values)))
    return LabelSelector(tuple(sorted(requirements, key=lambda r: r.key)))


def from_map(labels: Mapping[str, str]) -> LabelSelector:
    """A core/v1 selector (Services, ReplicationControllers): an empty one selects nothing."""
    if not labels:
        return NOTHING
    return LabelSelector(tuple(Requirement(k, "=", (v,)) for k, v in sorted(labels.items())))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """requirements: (path, "=" or "!=", value)."""

    requirements: tuple[tuple[str, str, str], ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, get: Callable[[str], str]) -> bool:
        """get answers a path with the field's value as text, "" when it is not set."""
        return all((get(path) == value) is (op == "=") for path, op, value in self.requirements)

    def required(self, path: str) -> str | None:
        """The value that the field must equal, if the selector says so."""
        return next((value for p, op, value in self.requirements if p == path and op == "="), None)

    def __str__(self) -> str:
        return ",".join(f"{p}{op}{escape(v)}" for p, op, v in self.requirements)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def parse_field_selector(text: str) -> FieldSelector:
    """Raises ValueError with Kubernetes' words."""
    requirements = []
    for term in re.split(r"(?<!\\),", text):
        if not term.strip():
            continue
        match = re.fullmatch(r"([^=!]+)(!=|==|=)(.*)", term.strip())
        if not match:
            raise ValueError(f"invalid selector: '{term}'; can't understand '{term}'")
        value = re.sub(r"\\([\\,=])", r"\1", match[3])
        requirements.append((match[1], "!=" if match[2] == "!=" else "=", value))
    return FieldSelector(tuple(requirements))
