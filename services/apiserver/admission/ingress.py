"""DefaultIngressClass: an Ingress that names no class gets the default one."""

from __future__ import annotations

from services.apiserver.admission.chain import CREATE, Attributes, BasePlugin
from services.apiserver.admission.storage import newest_default
from services.apiserver.registry.catalog import Catalog

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
# How classes were named before there was a field.
OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(BasePlugin):
    operations = frozenset({CREATE})
    resources = frozenset({("networking.k8s.io", "ingresses")})

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if ingress.spec.HasField("ingressClassName") or OLD_CLASS in ingress.metadata.annotations:
            return
        classes = self._catalog.get("networking.k8s.io/v1", "ingressclasses")
        found = newest_default(
            [entry.message() for entry in classes.cache.entries.values()],
            lambda annotations: annotations.get(DEFAULT_CLASS) == "true",
        )
        if found is not None:
            ingress.spec.ingressClassName = found.metadata.name
