"""DefaultIngressClass: an Ingress that names no class gets the default one."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, Attributes, BasePlugin
from services.apiserver.admission.parsed import Parsed
from services.apiserver.admission.storage import newest_default
from services.apiserver.registry.catalog import Catalog

DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
# How classes were named before there was a field.
OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(BasePlugin):
    operations = frozenset({CREATE})
    resources = frozenset({("networking.k8s.io", "ingresses")})

    def __init__(self, catalog: Catalog) -> None:
        self._default: Parsed[str] = Parsed(catalog, "networking.k8s.io/v1", "ingressclasses", _default_class)

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if ingress.spec.HasField("ingressClassName") or OLD_CLASS in ingress.metadata.annotations:
            return
        if name := self._default.value():
            ingress.spec.ingressClassName = name


def _default_class(classes: list[Any]) -> str:
    return newest_default(classes, lambda annotations: annotations.get(DEFAULT_CLASS) == "true")
