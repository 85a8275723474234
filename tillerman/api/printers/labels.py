"""Labels and selectors in cells."""

from collections.abc import Iterable, Mapping
from typing import Any

from tillerman.api.selectors import from_message

NONE = "<none>"


def label_text(labels: Mapping[str, str]) -> str:
    """`a=b,c=d`, sorted; `<none>` without any."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE


def selector_text(selector: Any) -> str:
    """A LabelSelector message as text; `<none>` when it is empty."""
    try:
        return str(from_message(selector)) or NONE
    except ValueError:
        return "<error>"


def container_names(containers: Iterable[Any]) -> str:
    return ",".join(container.name for container in containers)


def container_images(containers: Iterable[Any]) -> str:
    return ",".join(container.image for container in containers)


def few(items: list[str], limit: int = 3) -> str:
    """The first three, and how many more there are."""
    shown = ",".join(items[:limit])
    return f"{shown} + {len(items) - limit} more..." if len(items) > limit else shown
