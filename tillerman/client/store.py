"""An informer's objects by key, and indexes over them."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Store(Generic[T]):
    __slots__ = ("_functions", "_indexes", "objects")

    def __init__(self) -> None:
        self.objects: dict[str, T] = {}
        self._functions: dict[str, Callable[[T], Iterable[str]]] = {}
        # Index -> value -> keys, as a dict so that results come in a stable order.
        self._indexes: dict[str, dict[str, dict[str, None]]] = {}

    def __len__(self) -> int:
        return len(self.objects)

    def put(self, key: str, obj: T) -> None:
        if self._functions:
            old = self.objects.get(key)
            for name, fn in self._functions.items():
                before = () if old is None else tuple(fn(old))
                after = tuple(fn(obj))
                if before != after:
                    self._drop(name, key, before)
                    self._enter(name, key, after)
        self.objects[key] = obj

    def remove(self, key: str) -> T | None:
        old = self.objects.pop(key, None)
        if old is not None:
            for name, fn in self._functions.items():
                self._drop(name, key, fn(old))
        return old

    def add_index(self, name: str, fn: Callable[[T], Iterable[str]]) -> None:
        if name in self._functions:
            return
        self._functions[name] = fn
        self._indexes[name] = {}
        for key, obj in self.objects.items():
            self._enter(name, key, fn(obj))

    def by_index(self, name: str, value: str) -> list[T]:
        return [self.objects[key] for key in self._indexes[name].get(value, ())]

    def _enter(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            index.setdefault(value, {})[key] = None

    def _drop(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            keys = index.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del index[value]
