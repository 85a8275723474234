"""The apiserver put together: store, feed, caches, registry, admission; `Apiserver` is what the fronts are given."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from services.apiserver.admission.plugins import Surroundings, admission_chain
from services.apiserver.allocation.ranges import RangeAllocator, address_range, port_range
from services.apiserver.allocation.services import ServiceAllocator
from services.apiserver.auth.authorize import AlwaysAllow, AuthorizerChain, Rule
from services.apiserver.auth.node import NodeRule
from services.apiserver.auth.rbac import Rbac
from services.apiserver.auth.reviews import reviews
from services.apiserver.auth.tokens import BearerTokens, TokenKeys, TokenRequest, read_static
from services.apiserver.cache.hub import ROOT, CacheHub
from services.apiserver.crd.controller import DefinitionController
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.limits import Limits
from services.apiserver.options import ApiserverOptions
from services.apiserver.registry.catalog import DEFINITIONS, Catalog
from services.apiserver.registry.components import KEY as COMPONENT_STATUSES
from services.apiserver.registry.components import ComponentStatuses
from services.apiserver.registry.context import User
from services.apiserver.registry.creations import Creations
from services.apiserver.registry.deletion import Deleter
from services.apiserver.registry.eviction import Eviction
from services.apiserver.registry.patching import Patcher
from services.apiserver.registry.reading import Reader
from services.apiserver.registry.registry import Registry, Subresource
from services.apiserver.registry.subresources import Binding, Finalize, Scale
from services.apiserver.registry.versioned import VersionedRegistry
from services.apiserver.registry.writing import Writer
from services.apiserver.storage.etcd import EtcdClient, EtcdTLS
from services.apiserver.storage.feed import Feed
from services.apiserver.storage.store import Store
from services.apiserver.webhooks.client import WebhookClient
from services.apiserver.webhooks.services import ServiceAddresses
from tillerman.service.options import OptionsError


@dataclass(frozen=True, slots=True)
class Apiserver:
    """``authorizer`` is the one that the registry asks."""

    registry: Registry
    store: Store
    feed: Feed
    hub: CacheHub
    catalog: Catalog
    authorizer: AuthorizerChain
    instrument: Instrument
    tokens: BearerTokens
    services: ServiceAllocator
    webhooks: WebhookClient
    definitions: DefinitionController
    limits: Limits

    async def close(self) -> None:
        """After the last request."""
        await self.webhooks.close()
        await self.store.close()


def etcd_client(options: ApiserverOptions, instrument: Instrument) -> EtcdClient:
    tls = None
    if options.etcd_cafile is not None:
        tls = EtcdTLS(options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile)
    return EtcdClient(options.etcd_servers, tls=tls, observe=instrument.etcd)


def assemble(options: ApiserverOptions, instrument: Instrument) -> Apiserver:
    """Everything wired, nothing started: run ``feed.run()`` as a task and wait for ``feed.synced``."""
    store = Store(etcd_client(options, instrument), max_bytes=options.max_request_bytes)
    hub = CacheHub(instrument.undecodable)
    feed = Feed(store.client, hub, prefix=ROOT.encode())
    catalog = Catalog(hub)
    reader = Reader(store=store, feed=feed)
    authorizer = AuthorizerChain(authorization_rules(options, catalog))
    webhooks = WebhookClient(ServiceAddresses(catalog))
    catalog.use_webhooks(webhooks)
    surroundings = Surroundings(catalog, reader, store, authorizer, webhooks, instrument.registry)
    admission = admission_chain(options, surroundings)
    services = service_allocator(options, store)
    writer = Writer(
        store=store,
        reader=reader,
        admission=admission,
        hooks={("", "services"): services},
        creations=Creations(catalog, admission),
        event_ttl=int(options.event_ttl),
    )
    deleter = Deleter(reader=reader, writer=writer, admission=admission)
    keys = token_keys(options)
    tokens = BearerTokens(keys, catalog, static=static_tokens(options))
    binding = Binding(writer)
    subresources: dict[tuple[str, str], Subresource] = {
        ("pods", "binding"): binding,
        ("pods", "eviction"): Eviction(catalog=catalog, reader=reader, writer=writer, deleter=deleter),
        ("namespaces", "finalize"): Finalize(writer),
        ("serviceaccounts", "token"): TokenRequest(keys=keys, catalog=catalog, reader=reader),
        ("*", "scale"): Scale(reader, writer, admission),
    }
    leases = catalog.get("coordination.k8s.io/v1", "leases")
    registry = VersionedRegistry(
        catalog=catalog,
        reader=reader,
        writer=writer,
        deleter=deleter,
        patcher=Patcher(writer=writer),
        authorizer=authorizer,
        admission=admission,
        subresources=subresources,
        virtual=reviews(catalog=catalog, binding=binding, authorizer=authorizer, tokens=tokens),
        computed={COMPONENT_STATUSES: ComponentStatuses(leases, store.client, time.time)},
    )
    definitions = DefinitionController(
        definitions=catalog.get(*DEFINITIONS), customs=catalog.customs, writer=writer, deleter=deleter
    )
    for info in catalog.infos():
        instrument.allow(info.api_version, info.resource)
    instrument.observe_storage(hub)
    limits = Limits(max_reads=options.max_requests_inflight, max_writes=options.max_mutating_requests_inflight)
    return Apiserver(
        registry, store, feed, hub, catalog, authorizer, instrument, tokens, services, webhooks, definitions, limits
    )


def authorization_rules(options: ApiserverOptions, catalog: Catalog) -> list[Rule]:
    """Raises OptionsError for a mode that does not exist."""
    known: dict[str, Callable[[], Rule]] = {
        "Node": lambda: NodeRule(catalog),
        "RBAC": lambda: Rbac(catalog),
        "AlwaysAllow": AlwaysAllow,
    }
    for mode in options.authorization_mode:
        if mode not in known:
            raise OptionsError(f'--authorization-mode: "{mode}" is none of {", ".join(known)}')
    return [known[mode]() for mode in options.authorization_mode]


def service_allocator(options: ApiserverOptions, store: Store) -> ServiceAllocator:
    addresses = address_range(options.service_cluster_ip_range)
    ports = port_range(options.service_node_port_range)
    return ServiceAllocator(
        addresses=RangeAllocator(store, "/registry/ranges/serviceips", addresses),
        ports=RangeAllocator(store, "/registry/ranges/servicenodeports", ports),
    )


def static_tokens(options: ApiserverOptions) -> dict[str, User]:
    """Raises OptionsError for a file that cannot be read."""
    if options.token_auth_file is None:
        return {}
    try:
        return read_static(options.token_auth_file)
    except (OSError, ValueError) as error:
        raise OptionsError(f"--token-auth-file: {error}") from error


def token_keys(options: ApiserverOptions) -> TokenKeys:
    return TokenKeys(
        signing=options.service_account_signing_key_file,
        verifying=[Path(path) for path in options.service_account_key_file],
        issuer=options.service_account_issuer,
    )


@contextlib.asynccontextmanager
async def running(options: ApiserverOptions, instrument: Instrument) -> AsyncIterator[Apiserver]:
    """An apiserver whose caches are filled, without any front; for embedding and tests."""
    server = assemble(options, instrument)
    tasks = [asyncio.create_task(server.feed.run(), name="feed")]
    try:
        await server.feed.synced.wait()
        tasks.append(asyncio.create_task(server.definitions.run(), name="definitions"))
        yield server
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await server.close()


def first_service_ip(cidr: str) -> str:
    return str(ipaddress.ip_network(cidr)[1])
