"""The ServiceAccount controller: every namespace has the ServiceAccount "default"."""

from __future__ import annotations

from typing import ClassVar

from services.controller.framework import Controller, ControllerContext
from services.controller.outcomes import namespace_terminating, unless_present
from tillerman.api.status import StatusError, is_not_found
from tillerman.pb.k8s import core_v1_pb2 as core

DEFAULT = "default"


class ServiceAccountController(Controller):
    name = "serviceaccount"
    workers: ClassVar[int] = 4

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._namespaces = self.informer(core.Namespace)
        self._accounts = self.informer(core.ServiceAccount)
        self._namespaces.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))
        self._accounts.add_handler(on_delete=self._account_deleted)

    def known_keys(self) -> list[str]:
        return [namespace.metadata.name for namespace in self._namespaces.list()]

    def _account_deleted(self, account: core.ServiceAccount) -> None:
        if account.metadata.name == DEFAULT:
            self.queue.add(account.metadata.namespace)

    async def reconcile(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or namespace.metadata.HasField("deletionTimestamp"):
            return None
        if self._accounts.get(f"{key}/{DEFAULT}") is not None:
            return None
        account = core.ServiceAccount()
        account.metadata.name = DEFAULT
        account.metadata.namespace = key
        try:
            await unless_present(self.client.resource(core.ServiceAccount).create(account))
        except StatusError as error:
            if not namespace_terminating(error) and not is_not_found(error):
                raise
        return None
