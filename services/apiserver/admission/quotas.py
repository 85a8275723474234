"""ResourceQuota: what is created, or grows, is charged to the quotas of its namespace before it is stored.

Charges of one namespace are made by one task at a time: it takes everything that waits, checks one after the other on
what the ones before left, and writes each quota's status once, compared with the version that was read. So nothing is
ever charged beyond a quota, however many writes come at once and whichever API server they come to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.cache.entry import Entry
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.resource import Resource
from services.apiserver.storage.store import Store
from tillerman.api import quota as rules
from tillerman.api.quota import NOTHING, Amount, Usage
from tillerman.api.status import StatusError, conflict

GROWING = frozenset({rules.SERVICES, rules.CLAIMS})
UNCHARGED = frozenset({("", "events"), ("events.k8s.io", "events")})
ATTEMPTS = 20


class Quotas(BasePlugin):
    reads = frozenset({("v1", "resourcequotas")})

    def __init__(self, *, catalog: Catalog, reader: Reader, store: Store) -> None:
        self._catalog = catalog
        self._ledger = Ledger(catalog=catalog, reader=reader, store=store)

    def handles(self, operation: str, resource: Resource, subresource: str) -> bool:
        kind = (resource.group, resource.name)
        if not resource.namespaced or kind in UNCHARGED:
            return False
        if operation == CREATE:
            return subresource == ""
        if operation != UPDATE:
            return False
        return (kind in GROWING and subresource == "") or (kind == rules.PODS and subresource == "resize")

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden when a quota would be exceeded."""
        quotas = self._catalog.get("v1", "resourcequotas")
        if not quotas.cache.entries:
            return
        entries = quotas.cache.select(quotas.range_prefix(attributes.namespace))
        if not entries:
            return
        attributes.repeatable = False
        resource, now = attributes.resource, time.time()
        used = rules.usage(resource.group, resource.name, attributes.obj, now=now)
        negative = sorted(name for name, amount in used.items() if amount.value < 0)
        if negative:
            raise refused(attributes, f"quota usage is negative for resource(s): {','.join(negative)}")
        before = {}
        if attributes.old is not None:
            before = rules.usage(resource.group, resource.name, attributes.old, now=now)
        delta = {}
        for name, amount in used.items():
            more = amount.value - before.get(name, NOTHING).value
            if more > 0:
                delta[name] = Amount(more, amount.style)
        if not delta:
            return
        charge = Charge(attributes, delta)
        await self._ledger.charge(attributes.namespace, charge)
        if charge.made and not attributes.context.dry_run:
            attributes.undo = [*(attributes.undo or ()), partial(self._ledger.release, attributes.namespace, charge)]


@dataclass(slots=True, eq=False)
class Charge:
    """``made``: by quota key, what has been charged there."""

    attributes: Attributes
    delta: Usage
    made: dict[str, Usage] = field(default_factory=dict)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def refuse(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def accept(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Ledger:
    """The tasks it starts, one per namespace that is being charged, end with the last charge."""

    def __init__(self, *, catalog: Catalog, reader: Reader, store: Store) -> None:
        self._catalog = catalog
        self._reader = reader
        self._store = store
        self._waiting: dict[str, list[Charge]] = {}
        self._releases: dict[str, list[dict[str, Usage]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # What this server last wrote, until the cache has caught up.
        self._written: dict[str, Entry] = {}

    async def charge(self, namespace: str, charge: Charge) -> None:
        """Raises StatusError."""
        self._waiting.setdefault(namespace, []).append(charge)
        self._start(namespace)
        await charge.done

    def release(self, namespace: str, charge: Charge) -> None:
        """Gives back what was charged for a write that did not come to be."""
        if charge.made:
            self._releases.setdefault(namespace, []).append(charge.made)
            charge.made = {}
            self._start(namespace)

    def _start(self, namespace: str) -> None:
        if namespace not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._run(namespace), name=f"charge-quotas-{namespace}")
            self._tasks[namespace] = task

    async def _run(self, namespace: str) -> None:
        try:
            while self._waiting.get(namespace) or self._releases.get(namespace):
                charges = self._waiting.pop(namespace, [])
                releases = self._releases.pop(namespace, [])
                try:
                    await self._settle(namespace, charges, releases)
                except BaseException as error:
                    for charge in charges:
                        charge.refuse(error if isinstance(error, Exception) else asyncio.CancelledError())
                    if not isinstance(error, Exception):
                        raise
        finally:
            del self._tasks[namespace]

    async def _settle(self, namespace: str, charges: list[Charge], releases: list[dict[str, Usage]]) -> None:
        """Accepts or refuses every charge, makes every release; quotas that others wrote meanwhile are read again."""
        resource = self._catalog.get("v1", "resourcequotas")
        entries = self._current(resource, namespace)
        # Quotas that were read from etcd itself.
        certain: set[str] = set()
        for _ in range(ATTEMPTS):
            quotas = {key: entry.message() for key, entry in entries.items()}
            used = {key: rules.amounts_of(quota.status.used) for key, quota in quotas.items()}
            for given_back in releases:
                for key in given_back.keys() & used.keys():
                    _give_back(used[key], given_back[key])
            passed, stale = self._judge(namespace, charges, quotas, used, certain)
            if not stale:
                stale = await self._write(resource, entries, quotas, used)
                self._conclude(namespace, passed, stale)
                kept = ({key: amounts for key, amounts in given.items() if key in stale} for given in releases)
                releases = [given for given in kept if given]
            charges = [charge for charge in charges if not charge.done.done()]
            if not charges and not releases:
                return
            for key in stale:
                entry = await self._reader.fresh(resource, key)
                certain.add(key)
                if entry is None:
                    del entries[key]
                else:
                    entries[key] = entry
        for charge in charges:
            charge.refuse(conflict("resourcequotas", namespace))

    def _judge(
        self,
        namespace: str,
        charges: list[Charge],
        quotas: Mapping[str, Any],
        used: dict[str, Usage],
        certain: set[str],
    ) -> tuple[dict[Charge, dict[str, Usage]], set[str]]:
        """(what each charge that passes comes to, the quotas to read anew before anybody is refused on their word)."""
        passed: dict[Charge, dict[str, Usage]] = {}
        stale: set[str] = set()
        for charge in charges:
            if charge.done.done():
                continue
            try:
                passed[charge] = _check(charge, quotas, used)
            except _Refused as refusal:
                if refusal.key in certain:
                    charge.refuse(refusal.error)
                    self._give_up(namespace, charge)
                else:
                    stale.add(refusal.key)
        return passed, stale

    def _conclude(self, namespace: str, passed: dict[Charge, dict[str, Usage]], lost: set[str]) -> None:
        """After the writes: ``lost`` are the quotas that could not be written."""
        for charge, made in passed.items():
            charge.made |= {key: amounts for key, amounts in made.items() if key not in lost}
            if charge.done.done():
                # Nobody waits for it any more.
                self._give_up(namespace, charge)
            elif not lost & made.keys():
                charge.accept()

    def _give_up(self, namespace: str, charge: Charge) -> None:
        """A charge that comes to nothing is taken back from the quotas that had accepted it."""
        if charge.made:
            self._releases.setdefault(namespace, []).append(charge.made)
            charge.made = {}

    def _current(self, resource: Resource, namespace: str) -> dict[str, Entry]:
        entries = {}
        for entry in resource.cache.select(resource.range_prefix(namespace)):
            written = self._written.get(entry.key)
            if written is not None and written.revision <= entry.revision:
                del self._written[entry.key]
                written = None
            entries[entry.key] = written or entry
        return entries

    async def _write(
        self, resource: Resource, entries: dict[str, Entry], quotas: Mapping[str, Any], used: dict[str, Usage]
    ) -> set[str]:
        """Writes what has changed; returns the keys that somebody else wrote in between."""
        changed = [key for key, quota in quotas.items() if used[key] != rules.amounts_of(quota.status.used)]

        async def write(key: str) -> bool:
            quota = quotas[key]
            quota.metadata.ClearField("resourceVersion")
            for name, amount in used[key].items():
                quota.status.used[name].string = str(amount)
            raw = resource.encode(quota)
            outcome = await self._store.put(key, resource.store_value(raw), expected=entries[key].revision)
            if outcome.succeeded:
                entries[key] = self._written[key] = resource.entry(key, raw, outcome.revision)
            return outcome.succeeded

        written = await asyncio.gather(*(write(key) for key in changed))
        return {key for key, succeeded in zip(changed, written, strict=True) if not succeeded}


class _Refused(Exception):
    def __init__(self, key: str, error: StatusError) -> None:
        super().__init__(str(error))
        self.key = key
        self.error = error


def _check(charge: Charge, quotas: Mapping[str, Any], used: dict[str, Usage]) -> dict[str, Usage]:
    """What is to be charged by quota key, where it has not been yet; added to ``used``. Raises _Refused."""
    attributes = charge.attributes
    resource = attributes.resource
    found: dict[str, Usage] = {}
    for key, quota in quotas.items():
        hard = rules.amounts_of(quota.status.hard)
        if key in charge.made or not rules.applies(quota.spec, hard, resource.group, resource.name, attributes.obj):
            continue
        limited = rules.matching(hard, resource.group, resource.name)
        name = quota.metadata.name
        if (resource.group, resource.name) == rules.PODS:
            missing = rules.unspecified(attributes.obj, limited)
            if missing:
                detail = f"failed quota: {name}: must specify {','.join(missing)}"
                raise _Refused(key, refused(attributes, detail))
        unknown = sorted(n for n in limited if n not in quota.status.used)
        if unknown:
            detail = f"status unknown for quota: {name}, resources: {','.join(unknown)}"
            raise _Refused(key, refused(attributes, detail))
        asked = {n: amount for n, amount in charge.delta.items() if n in hard}
        exceeded = [n for n, a in asked.items() if used[key].get(n, NOTHING).value + a.value > hard[n].value]
        if exceeded:
            detail = (
                f"exceeded quota: {name}, requested: {rules.shown(asked, exceeded)}, "
                f"used: {rules.shown(used[key], exceeded)}, limited: {rules.shown(hard, exceeded)}"
            )
            raise _Refused(key, refused(attributes, detail))
        if asked:
            found[key] = asked
    if not attributes.context.dry_run:
        for key, asked in found.items():
            rules.add(used[key], asked)
        return found
    return {}


def _give_back(used: Usage, amounts: Usage) -> None:
    for name, amount in amounts.items():
        if name in used:
            used[name] = Amount(max(Decimal(0), used[name].value - amount.value), used[name].style)
