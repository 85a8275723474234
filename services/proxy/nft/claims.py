"""Who wants which element of the table: the difference between two desired states, one Service port at a time.

Several ports may want the same element (two Services with one external IP and port; a pod behind two Services in the
hairpin set). The first claim decides what the kernel holds, and the next one takes over when it is given up.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
O = TypeVar("O", bound=Hashable)  # noqa: E741 - the owner


@dataclass(slots=True)
class Difference(Generic[K, V]):
    """Elements to take out (also those about to be replaced) and to put in."""

    remove: dict[K, V] = field(default_factory=dict)
    add: dict[K, V] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.remove or self.add)


class Claims(Generic[O, K, V]):
    """The wanted elements by owner. `begin` and `finish` bracket the changes that go to the kernel together."""

    def __init__(self) -> None:
        self._by_key: dict[K, dict[O, V]] = {}
        self._by_owner: dict[O, dict[K, V]] = {}
        self._before: dict[K, tuple[V] | None] = {}

    def set(self, owner: O, wanted: dict[K, V]) -> None:
        """Replaces everything that the owner wants; empty to give everything up."""
        had = self._by_owner.get(owner, {})
        for key, value in had.items():
            if key not in wanted:
                self._note(key)
                claims = self._by_key[key]
                del claims[owner]
                if not claims:
                    del self._by_key[key]
            elif wanted[key] != value:
                self._note(key)
                self._by_key[key][owner] = wanted[key]
        for key, value in wanted.items():
            if key not in had:
                self._note(key)
                self._by_key.setdefault(key, {})[owner] = value
        if wanted:
            self._by_owner[owner] = wanted
        else:
            self._by_owner.pop(owner, None)

    def _note(self, key: K) -> None:
        if key not in self._before:
            value = self.value(key)
            self._before[key] = value

    def value(self, key: K) -> tuple[V] | None:
        """What the kernel should hold for the key, in a tuple since the value itself may be None."""
        claims = self._by_key.get(key)
        return (next(iter(claims.values())),) if claims else None

    def contested(self, owner: O) -> dict[K, O]:
        """The owner's wanted elements that another owner holds with a different value, and who that is."""
        lost = {}
        for key, value in self._by_owner.get(owner, {}).items():
            holder, held = next(iter(self._by_key[key].items()))
            if holder != owner and held != value:
                lost[key] = holder
        return lost

    def finish(self) -> Difference[K, V]:
        """What changed since the last call."""
        difference = Difference[K, V]()
        for key, before in self._before.items():
            now = self.value(key)
            if now == before:
                continue
            if before is not None:
                difference.remove[key] = before[0]
            if now is not None:
                difference.add[key] = now[0]
        self._before = {}
        return difference

    def all(self) -> dict[K, V]:
        return {key: next(iter(claims.values())) for key, claims in self._by_key.items()}
