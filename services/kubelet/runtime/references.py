"""Image references: whether they can be parsed, and their parts."""

import re

_REFERENCE = re.compile(
    r"^(?:(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@[a-z0-9+._-]+:[0-9a-fA-F]{32,})?$"
)


def is_reference(reference: str) -> bool:
    """Whether an image name can be parsed at all."""
    return bool(_REFERENCE.match(reference))


def split_reference(reference: str) -> tuple[str, str]:
    """("registry:5000/app", "1") or ("app", "sha256:…"); no tag means latest."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        head, _, last = name.rpartition("/")
        return (f"{head}/" if head else "") + last.split(":")[0], digest
    head, _, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return (f"{head}/" if head else "") + name, tag or "latest"
