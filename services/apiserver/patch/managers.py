"""metadata.managedFields: who set which fields, read from and written to an object's JSON form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.apiserver.patch.field_paths import EMPTY, FieldSet, decode, encode

APPLY, UPDATE = "Apply", "Update"
_MAX_UPDATERS = 10
_ANCIENT = "ancient-changes"

# Fields that the server owns whoever writes them.
STRIPPED: FieldSet = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Manager:
    """Who: an applier is one whatever version it speaks; an updater is another for each."""

    name: str
    operation: str
    api_version: str = ""

    @classmethod
    def of(cls, name: str, operation: str, api_version: str) -> Manager:
        return cls(name, operation, "" if operation == APPLY else api_version)

    def __str__(self) -> str:
        return f'"{self.name}"' if self.operation == APPLY else f'"{self.name}" using {self.api_version}'


@dataclass(slots=True)
class Owned:
    """What one manager owns, in which version it said so, and when."""

    fields: FieldSet
    api_version: str
    time: str = ""


@dataclass(slots=True)
class Managers:
    """All managers of an object."""

    entries: dict[Manager, Owned] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: dict[str, Any] | None) -> Managers:
        """Raises ValueError for entries that cannot be read."""
        found = cls()
        for entry in (metadata or {}).get("managedFields") or []:
            fields = entry.get("fieldsV1")
            if entry.get("operation") not in (APPLY, UPDATE) or not isinstance(fields, dict):
                raise ValueError("invalid managed fields")
            manager = Manager.of(entry.get("manager", ""), entry["operation"], entry.get("apiVersion", ""))
            found.entries[manager] = Owned(decode(fields), entry.get("apiVersion", ""), entry.get("time") or "")
        return found

    def encoded(self) -> list[dict[str, Any]]:
        """The entries of metadata.managedFields: appliers first, then by time and name."""
        entries = sorted(self.entries.items(), key=lambda e: (e[0].operation, e[1].time, e[0].name, e[1].api_version))
        return [
            {
                "manager": manager.name,
                "operation": manager.operation,
                "apiVersion": owned.api_version,
                **({"time": owned.time} if owned.time else {}),
                "fieldsType": "FieldsV1",
                "fieldsV1": encode(owned.fields),
            }
            for manager, owned in entries
        ]

    def copy(self) -> Managers:
        return Managers({m: Owned(o.fields, o.api_version, o.time) for m, o in self.entries.items()})

    def tidy(self) -> None:
        """Without the server's own fields and managers that own nothing."""
        for manager in list(self.entries):
            owned = self.entries[manager]
            owned.fields = owned.fields - STRIPPED
            if owned.fields == EMPTY:
                del self.entries[manager]

    def limit_updaters(self) -> None:
        """Beyond ten updaters, the oldest are remembered only as ancient changes."""
        updaters = sorted(
            (m for m in self.entries if m.operation == UPDATE),
            key=lambda m: (self.entries[m].time, m.name, m.api_version),
        )
        surplus = updaters[: len(updaters) - _MAX_UPDATERS] if len(updaters) > _MAX_UPDATERS else []
        if not surplus:
            return
        # One more goes, to make room for the entry they are gathered in.
        for manager in updaters[: len(surplus) + 1]:
            owned = self.entries.pop(manager)
            ancient = Manager(_ANCIENT, UPDATE, owned.api_version)
            known = self.entries.setdefault(ancient, Owned(EMPTY, owned.api_version, owned.time))
            known.fields = known.fields | owned.fields
            known.time = max(known.time, owned.time)
