"""Names that controllers make: generated suffixes and template hashes, from Kubernetes' alphabet without vowels."""

from __future__ import annotations

import random

from google.protobuf.message import Message

from tillerman.api.codec import to_json

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED_PREFIX_MAX = 58
_RANDOM = random.SystemRandom()


def generated_name(prefix: str, *, length: int = 5) -> str:
    """`prefix` (cut to 58 characters) and a random suffix, as metadata.generateName would make it."""
    return prefix[:_GENERATED_PREFIX_MAX] + "".join(_RANDOM.choices(ALPHABET, k=length))


def template_hash(template: Message, collisions: int = 0) -> str:
    """A short stable hash of a message, for the label pod-template-hash; `collisions` makes another one."""
    digest = _fnv32a(to_json(template) + (str(collisions).encode() if collisions else b""))
    return "".join(ALPHABET[int(digit) % len(ALPHABET)] for digit in str(digest))


def _fnv32a(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
