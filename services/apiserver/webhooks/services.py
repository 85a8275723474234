"""Where a Service's webhook listens, as the API server sees it: one of the Service's endpoints that are ready."""

from __future__ import annotations

import random
from typing import Any

from services.apiserver.registry.catalog import Catalog
from services.apiserver.webhooks.client import WebhookError


class ServiceAddresses:
    """A webhooks.client.Resolve over the caches.

    Endpoints come first: the API server's machine reaches pods whether or not a proxy runs there. A Service without
    any EndpointSlice (no controller manager, or endpoints kept by hand elsewhere) is tried at its cluster IP.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def __call__(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        services = self._catalog.get("v1", "services")
        entry = services.cache.entries.get(services.key(namespace, name))
        if entry is None:
            raise WebhookError(f'service "{name}" not found')
        spec = entry.message().spec
        if spec.type == "ExternalName":
            return spec.externalName, port
        wanted = next((p for p in spec.ports if p.port == port), None)
        if wanted is None:
            raise WebhookError(f'no service port {port} found for service "{name}"')
        slices = self._slices(namespace, name)
        if not slices and spec.clusterIP not in ("", "None"):
            return spec.clusterIP, port
        ready = [
            (endpoint.addresses[0], found.port)
            for each in slices
            for found in each.ports
            if found.name == wanted.name and found.port
            for endpoint in each.endpoints
            if endpoint.addresses and (endpoint.conditions.ready or not endpoint.conditions.HasField("ready"))
        ]
        if not ready:
            raise WebhookError(f'no endpoints available for service "{name}"')
        return random.choice(ready)

    def _slices(self, namespace: str, service: str) -> list[Any]:
        resource = self._catalog.get("discovery.k8s.io/v1", "endpointslices")
        return [
            entry.message()
            for entry in resource.cache.select(resource.range_prefix(namespace))
            if entry.labels.get("kubernetes.io/service-name") == service
        ]
