"""What a URL asks for: the resource, namespace, name and subresource behind a path, and the query's flags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from services.apiserver.registry.registry import Target
from tillerman.api.status import StatusError, bad_request, no_such_path

# Segments below a namespace's name that are the namespace's own subresources.
OF_NAMESPACES = frozenset({"status", "finalize"})
NUMBER = re.compile(r"[-+]?[0-9]+")
FALSE = frozenset({"0", "false"})


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """A path below /api/<version> or /apis/<group>/<version>. ``rest``: what follows a proxy's port, and the like.

    ``watch``: it is one of the old paths of watches, /api/<version>/watch/…
    """

    target: Target
    rest: str = ""
    watch: bool = False


def split(raw_path: str) -> list[str]:
    """The decoded segments of a path, as it stands on the request line."""
    return [unquote(part) for part in raw_path.partition("?")[0].split("/") if part]


def resource_path(segments: list[str]) -> ResourcePath:
    """Raises NotFound for a path that is no resource's."""
    if segments[0] == "api" and len(segments) > 2:
        api_version, parts = segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        api_version, parts = f"{segments[1]}/{segments[2]}", segments[3:]
    else:
        raise no_such_path()
    watch = parts[0] == "watch" and len(parts) > 1
    if watch:
        parts = parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and not (len(parts) == 3 and parts[2] in OF_NAMESPACES):
        namespace, parts = parts[1], parts[2:]
    padded = [*parts, "", ""]
    return ResourcePath(Target(api_version, padded[0], namespace, padded[1], padded[2]), "/".join(parts[3:]), watch)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter: whatever is there, and does not say no, means yes."""
    return name in query and query[name].lower() not in FALSE


def number(query: Mapping[str, str], name: str) -> int | None:
    """A 64 bit integer parameter; None where it is missing. Raises BadRequest."""
    value = query.get(name)
    if value is None:
        return None
    if not NUMBER.fullmatch(value):
        raise not_a_number(value, "invalid syntax")
    # Python refuses to read thousands of digits.
    parsed = int(value[:30])
    if not -(1 << 63) <= parsed < 1 << 63:
        raise not_a_number(value, "value out of range")
    return parsed


def not_a_number(value: str, why: str) -> StatusError:
    return bad_request(f'strconv.ParseInt: parsing "{value}": {why}')
