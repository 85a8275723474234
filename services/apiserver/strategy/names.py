"""Rules for metadata.name (and generateName, whose trailing dash counts as a letter) per kind."""

from __future__ import annotations

from collections.abc import Callable

from tillerman.api import validation

NameRule = Callable[[str, bool], list[str]]
"""(name, is a generateName prefix) -> Kubernetes' complaints."""


def _mask_prefix(name: str, prefix: bool) -> str:
    """A generateName may end in a dash, since letters follow it."""
    return name[:-2] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


def dns_subdomain(name: str, prefix: bool = False) -> list[str]:
    return validation.is_dns1123_subdomain(_mask_prefix(name, prefix))


def dns_label(name: str, prefix: bool = False) -> list[str]:
    return validation.is_dns1123_label(_mask_prefix(name, prefix))


def dns1035_label(name: str, prefix: bool = False) -> list[str]:
    return validation.is_dns1035_label(_mask_prefix(name, prefix))


def path_segment(name: str, prefix: bool = False) -> list[str]:
    """Names that need only be usable in a URL (RBAC, events by tradition)."""
    if not prefix and name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{illegal}'" for illegal in ("/", "%") if illegal in name]
