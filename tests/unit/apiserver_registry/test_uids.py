"""Random UUIDs."""

from __future__ import annotations

import uuid

from services.apiserver.registry.uids import Uids


def test_they_are_version_4_and_all_different() -> None:
    uids = Uids()
    made = [uids.new() for _ in range(3_000)]
    assert len(set(made)) == len(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)
    # No digit but the version's is fixed, and the variant takes all four values.
    assert {text[19] for text in made} == set("89ab")
    assert all(len({text[i] for text in made}) == 16 for i in range(36) if i not in (8, 13, 14, 18, 19, 23))
