"""The resources that are served: those of the scheme, and custom ones as they come and go."""

from __future__ import annotations

from collections.abc import Iterator

from services.apiserver.cache.hub import CacheHub
from services.apiserver.crd.conversion import Converter, Relabel, Webhook
from services.apiserver.crd.definition import Definition
from services.apiserver.crd.resource import CustomResource
from services.apiserver.crd.served import ServedCustoms
from services.apiserver.registry.resource import Resource
from services.apiserver.registry.versions import VIEWS
from services.apiserver.webhooks.client import WebhookClient, endpoint_of
from tillerman.api.scheme import SCHEME, ResourceInfo
from tillerman.api.status import no_such_path

DEFINITIONS = ("apiextensions.k8s.io/v1", "customresourcedefinitions")


class Catalog:
    """Resources are made when they are first asked for, so that a start imports no API group that nobody uses."""

    def __init__(self, hub: CacheHub) -> None:
        self.hub = hub
        self._infos: dict[tuple[str, str], ResourceInfo] = {
            (info.api_version, info.resource): info for info in SCHEME.resources(also_served=True)
        }
        self._made: dict[tuple[str, str], Resource] = {}
        self._customs: ServedCustoms | None = None
        self._webhooks: WebhookClient | None = None

    def info(self, api_version: str, resource: str) -> ResourceInfo | None:
        """The scheme's row, for resources without storage too (reviews); None for custom resources."""
        return self._infos.get((api_version, resource))

    def get(self, api_version: str, resource: str) -> Resource:
        """Raises NotFound, as for a path that does not exist."""
        found = self._made.get((api_version, resource))
        if found is not None:
            return found
        info = self._infos.get((api_version, resource))
        if info is None:
            custom = self.customs.find(api_version, resource)
            if custom is None:
                raise no_such_path()
            return custom
        if info.etcd_prefix is None or (api_version, resource) in VIEWS:
            raise no_such_path()
        found = self._made[api_version, resource] = Resource(info, self.hub)
        return found

    def stores(self, info: ResourceInfo) -> bool:
        """Whether objects of a row of the scheme are stored, be it in another version; makes nothing."""
        return bool(info.etcd_prefix)

    @property
    def customs(self) -> ServedCustoms:
        if self._customs is None:
            self._customs = ServedCustoms(self.get(*DEFINITIONS), self.hub, self._converter)
        return self._customs

    def use_webhooks(self, client: WebhookClient) -> None:
        """Who asks the webhooks that convert custom resources."""
        self._webhooks = client

    def _converter(self, definition: Definition) -> Converter:
        """What converts between a definition's versions."""
        if definition.webhook is None or self._webhooks is None:
            return Relabel()
        endpoint = endpoint_of(definition.webhook.clientConfig)
        return Webhook(self._webhooks, endpoint, definition.webhook.conversionReviewVersions)

    def custom(self, api_version: str, resource: str) -> CustomResource | None:
        """A custom resource's version; None for anything else."""
        return None if (api_version, resource) in self._infos else self.customs.find(api_version, resource)

    def infos(self) -> Iterator[ResourceInfo]:
        yield from self._infos.values()
