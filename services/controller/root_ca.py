"""Publishes the cluster's CA certificate to every namespace, as the ConfigMap kube-root-ca.crt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from services.controller.framework import Controller, ControllerContext
from services.controller.outcomes import namespace_terminating, unless_present
from tillerman.api.status import StatusError, is_not_found
from tillerman.pb.k8s import core_v1_pb2 as core

NAME = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCAPublisher(Controller):
    name = "root-ca-certificate-publisher"
    workers: ClassVar[int] = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._certificate: str | None = None
        self._namespaces = self.informer(core.Namespace)
        self._maps = self.needs(
            context.informers.informer(core.ConfigMap, field_selector=f"metadata.name={NAME}")
        )  # fmt: skip
        self._namespaces.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))
        self._maps.add_handler(on_update=lambda _, new: self._map_changed(new), on_delete=self._map_changed)

    def known_keys(self) -> list[str]:
        return [namespace.metadata.name for namespace in self._namespaces.list()]

    def _map_changed(self, config_map: core.ConfigMap) -> None:
        self.queue.add(config_map.metadata.namespace)

    async def _load(self) -> str:
        if self._certificate is None:
            path = self.options.root_ca_file
            self._certificate = await asyncio.to_thread(Path(path).read_text) if path else ""
        return self._certificate

    async def reconcile(self, key: str) -> float | None:
        certificate = await self._load()
        namespace = self._namespaces.get(key)
        if not certificate or namespace is None or namespace.metadata.HasField("deletionTimestamp"):
            return None
        client = self.client.resource(core.ConfigMap)
        present = self._maps.get(f"{key}/{NAME}")
        wanted = core.ConfigMap()
        if present is not None:
            if dict(present.data) == {"ca.crt": certificate}:
                return None
            wanted.CopyFrom(present)
        wanted.metadata.name, wanted.metadata.namespace = NAME, key
        wanted.metadata.annotations["kubernetes.io/description"] = DESCRIPTION
        wanted.data.clear()
        wanted.data["ca.crt"] = certificate
        try:
            if present is None:
                await unless_present(client.create(wanted))
            else:
                await client.update(wanted)
        except StatusError as error:
            if not namespace_terminating(error) and not is_not_found(error):
                raise
        return None
