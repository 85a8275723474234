"""JSONPath in kubectl's dialect: templates such as `{range .items[*]}{.metadata.name}{"\\n"}{end}`.

Understood: fields (`.a.b`, `['a']`, `\\.` in names), indices and slices (`[0]`, `[-1]`, `[1:3]`, `[*]`), unions
(`['a','b']`, `[0,2]`), recursive descent (`..a`), filters (`[?(@.type=="Ready")]`), literals, and range … end.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

Step = Callable[[list[Any], Any], list[Any]]
_TOKEN: Final = re.compile(
    r"""(?P<deep>\.\.(?P<deepname>\*|(?:\\.|[^\s.\[\]{}()'"])+)?)
      | (?P<field>\.(?P<name>\*|(?:\\.|[^\s.\[\]{}()'"])+))
      | (?P<bracket>\[)""",
    re.VERBOSE,
)
_FILTER: Final = re.compile(r"""\?\(\s*(?P<left>.+?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?\)$""")
_SLICE: Final = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")


class PathError(ValueError):
    """A template that cannot be understood."""


def find(path: str, data: Any) -> list[Any]:
    """The values at a bare path such as `.status.conditions[?(@.type=="Ready")].status`; empty when there are none."""
    values = [data]
    for step in _compile(path.strip()):
        values = step(values, data)
    return values


def render(template: str, data: Any, *, strict: bool = False) -> str:
    """Fills a template in. Missing fields print nothing; with `strict` a missing field raises PathError.

    A template without braces counts as one path.
    """
    if "{" not in template:
        template = "{" + (template if template.startswith((".", "$", "[", "@")) else "." + template) + "}"
    return "".join(_render(_parse(template), data, data, strict))


Node = tuple[str, Any]


def _parse(template: str) -> list[Node]:
    """Nodes: ("text", str), ("paths", [path…]), ("range", (path, [nodes]))."""
    stack: list[list[Node]] = [[]]
    opened: list[str] = []
    for kind, content in _split(template):
        if kind == "text":
            stack[-1].append(("text", content))
        elif content.startswith("range"):
            opened.append(content[5:].strip())
            stack.append([])
        elif content == "end":
            if not opened:
                raise PathError("not in range, nothing to end")
            body = stack.pop()
            stack[-1].append(("range", (opened.pop(), body)))
        elif content[:1] in "\"'" and len(content) > 1:
            stack[-1].append(("text", _literal(content)))
        else:
            stack[-1].append(("paths", _words(content)))
    if opened:
        raise PathError("unclosed range: {end} is missing")
    return stack[0]


def _split(template: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(template):
        start = template.find("{", at)
        if start < 0:
            yield "text", template[at:]
            return
        if start > at:
            yield "text", template[at:start]
        end = _closing(template, start + 1, "}")
        yield "action", template[start + 1 : end].strip()
        at = end + 1


def _closing(text: str, at: int, closer: str) -> int:
    """Where the bracket closes, quoted text skipped."""
    quote, depth = "", 0
    opener = {"}": "{", "]": "["}[closer]
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter == opener:
            depth += 1
        elif letter == closer:
            if depth == 0:
                return at
            depth -= 1
        at += 1
    raise PathError(f"unclosed {'action' if closer == '}' else 'array expect ]'} in {text!r}")


def _words(content: str) -> list[str]:
    """Several paths in one action print side by side."""
    words, at = [], 0
    for i, letter in enumerate(content + " "):
        if letter == " " and content[at:i].strip() and content[at:i].count("[") == content[at:i].count("]"):
            words.append(content[at:i].strip())
            at = i
    if content[at:].strip():
        words.append(content[at:].strip())
    return words


def _literal(text: str) -> str:
    body = text[1:-1]
    if text[-1] != text[0]:
        raise PathError(f"unterminated quoted string {text}")
    return body.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")


def _render(nodes: list[Node], current: Any, root: Any, strict: bool) -> Iterator[str]:
    for kind, content in nodes:
        if kind == "text":
            yield content
        elif kind == "range":
            path, body = content
            for item in _follow(path, current, root, strict):
                yield from _render(body, item, root, strict)
        else:
            shown = [_shown(v) for path in content for v in _follow(path, current, root, strict)]
            yield " ".join(shown)


def _follow(path: str, current: Any, root: Any, strict: bool) -> list[Any]:
    values = [root] if path.startswith("$") else [current]
    for step in _compile(path):
        values = step(values, root)
    if strict and not values and re.fullmatch(r"[$@]?(\.[\w-]+)+", path):
        raise PathError(f"{path.rpartition('.')[2]} is not found")
    return values


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_compiled: dict[str, list[Step]] = {}


def _compile(path: str) -> list[Step]:
    steps = _compiled.get(path)
    if steps is None:
        steps = _compiled[path] = list(_steps(path))
    return steps


def _steps(path: str) -> Iterator[Step]:
    rest = path[1:] if path[:1] in ("$", "@") else path
    at = 0
    while at < len(rest):
        if rest[at:] == ".":
            return
        match = _TOKEN.match(rest, at)
        if match is None:
            raise PathError(f"unrecognized character in path: {rest[at:]!r} of {path!r}")
        at = match.end()
        if match["deep"]:
            yield _deep
            if match["deepname"]:
                yield _field(match["deepname"])
        elif match["field"]:
            yield _field(match["name"])
        else:
            end = _closing(rest, at, "]")
            yield _bracket(rest[at:end].strip())
            at = end + 1


def _field(name: str) -> Step:
    if name == "*":
        return _all
    plain = re.sub(r"\\(.)", r"\1", name)
    return lambda values, root: [v[plain] for v in values if isinstance(v, dict) and plain in v]


def _all(values: list[Any], root: Any) -> list[Any]:
    return [child for v in values for child in _children(v)]


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def _deep(values: list[Any], root: Any) -> list[Any]:
    out: list[Any] = []
    for value in values:
        out.append(value)
        out.extend(_deep(_children(value), root))
    return out


def _bracket(content: str) -> Step:
    if content == "*":
        return _all
    if content.startswith("?"):
        return _filter(content)
    parts = [part.strip() for part in re.split(r",(?=(?:[^']*'[^']*')*[^']*$)", content)]
    selectors = [_selector(part) for part in parts]
    return lambda values, root: [found for v in values for select in selectors for found in select(v)]


def _selector(part: str) -> Callable[[Any], list[Any]]:
    if len(part) > 1 and part[0] in "\"'" and part[-1] == part[0]:
        name = part[1:-1]
        return lambda v: [v[name]] if isinstance(v, dict) and name in v else []
    if match := _SLICE.fullmatch(part):
        begin, end, step = (int(group) if group else None for group in match.groups())
        return lambda v: v[begin:end:step] if isinstance(v, list) else []
    if re.fullmatch(r"-?\d+", part):
        index = int(part)
        return lambda v: [v[index]] if isinstance(v, list) and -len(v) <= index < len(v) else []
    if re.fullmatch(r"[\w.\\/-]+", part):
        name = part.replace("\\", "")
        return lambda v: [v[name]] if isinstance(v, dict) and name in v else []
    raise PathError(f"invalid array index [{part}]")


def _filter(content: str) -> Step:
    match = _FILTER.match(content)
    if match is None:
        raise PathError(f"cannot understand the filter [{content}]")
    left, operator, right = _operand(match["left"]), match["op"], match["right"]
    if operator is None:
        return lambda values, root: [c for v in values for c in _children(v) if left(c, root)]
    other = _operand(right)

    def keep(child: Any, root: Any) -> bool:
        return any(_compare(a, operator, b) for a in left(child, root) for b in other(child, root))

    return lambda values, root: [c for v in values for c in _children(v) if keep(c, root)]


def _operand(text: str) -> Callable[[Any, Any], list[Any]]:
    if text.startswith("@"):
        steps = _compile(text)

        def from_child(child: Any, root: Any) -> list[Any]:
            values = [child]
            for step in steps:
                values = step(values, root)
            return values

        return from_child
    if text.startswith("$"):
        return lambda child, root: find(text, root)
    if text[0] in "\"'":
        value: Any = _literal(text)
    else:
        try:
            value = json.loads(text)
        except ValueError:
            raise PathError(f"unrecognized operand {text!r} in a filter") from None
    return lambda child, root: [value]


def _compare(a: Any, operator: str, b: Any) -> bool:
    if operator in ("==", "!="):
        same = a == b and isinstance(a, bool) == isinstance(b, bool)
        return same if operator == "==" else not same
    if isinstance(a, str) != isinstance(b, str) or not isinstance(a, (str, int, float)):
        return False
    return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator])
