"""Admission of pods: the service account, default tolerations, the priority of the class."""

from __future__ import annotations

from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from tillerman.api.status import forbidden
from tillerman.pb.k8s import core_v1_pb2

TOLERATION_SECONDS = 300
BUILT_IN_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def is_pod(attributes: Attributes) -> bool:
    """A pod itself, not one of its subresources."""
    resource = attributes.resource
    return not attributes.subresource and not resource.group and resource.name == "pods"


def is_new_pod(attributes: Attributes) -> bool:
    return attributes.operation == CREATE and is_pod(attributes)


class ServiceAccounts(BasePlugin):
    """A pod without an account gets "default"; its account's image pull secrets; the account must exist if asked to.

    ``require``: refuse pods whose account does not exist (there is no account in a cluster without a controller
    manager).
    """

    def __init__(self, catalog: Catalog, reader: Reader, *, require: bool) -> None:
        self._catalog = catalog
        self._reader = reader
        self._require = require

    async def admit(self, attributes: Attributes) -> None:
        if not is_new_pod(attributes):
            return
        spec = attributes.obj.spec
        if "kubernetes.io/config.mirror" in attributes.obj.metadata.annotations:
            return
        if not spec.serviceAccountName:
            spec.serviceAccountName = "default"
        spec.serviceAccount = spec.serviceAccountName
        account = await self._account(attributes.namespace, spec.serviceAccountName)
        if account is None:
            if self._require:
                name = attributes.obj.metadata.name or attributes.obj.metadata.generateName
                detail = (
                    f"error looking up service account {attributes.namespace}/{spec.serviceAccountName}: "
                    f'serviceaccount "{spec.serviceAccountName}" not found'
                )
                raise forbidden("pods", name, detail)
            return
        if not spec.imagePullSecrets:
            spec.imagePullSecrets.extend(account.imagePullSecrets)

    async def _account(self, namespace: str, name: str) -> Any | None:
        accounts = self._catalog.get("v1", "serviceaccounts")
        key = accounts.key(namespace, name)
        entry = accounts.cache.entries.get(key)
        if entry is None and self._require:
            entry = await self._reader.fresh(accounts, key)
        return None if entry is None else entry.message()


class DefaultTolerations(BasePlugin):
    """Pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise."""

    async def admit(self, attributes: Attributes) -> None:
        resource = attributes.resource
        if resource.group or resource.name != "pods" or attributes.subresource:
            return
        if attributes.operation not in (CREATE, UPDATE) or not is_pod(attributes):
            return
        spec = attributes.obj.spec
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(_tolerates(t, key) for t in spec.tolerations):
                spec.tolerations.append(
                    core_v1_pb2.Toleration(
                        key=key, operator="Exists", effect="NoExecute", tolerationSeconds=TOLERATION_SECONDS
                    )
                )


def _tolerates(toleration: Any, key: str) -> bool:
    return toleration.key in (key, "") and toleration.effect in ("NoExecute", "")


class Priority(BasePlugin):
    """Resolves priorityClassName to a number and a preemption policy."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def admit(self, attributes: Attributes) -> None:
        """Raises Forbidden for a class that does not exist."""
        if not is_new_pod(attributes):
            return
        pod = attributes.obj
        spec = pod.spec
        name = spec.priorityClassName
        value, policy = 0, "PreemptLowerPriority"
        if name in BUILT_IN_PRIORITIES:
            value = BUILT_IN_PRIORITIES[name]
        elif name:
            classes = self._catalog.get("scheduling.k8s.io/v1", "priorityclasses")
            entry = classes.cache.entries.get(classes.key("", name))
            if entry is None:
                raise forbidden(
                    "pods",
                    pod.metadata.name or pod.metadata.generateName,
                    f"no PriorityClass with name {name} was found",
                )
            value, policy = _of_class(entry.message())
        else:
            found = self._default_class()
            if found is not None:
                spec.priorityClassName = found.metadata.name
                value, policy = _of_class(found)
        if spec.HasField("priority") and spec.priority != value and name:
            detail = (
                f"the integer value of priority ({spec.priority}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
            raise forbidden("pods", pod.metadata.name, detail)
        spec.priority = value
        if not spec.preemptionPolicy:
            spec.preemptionPolicy = policy

    def _default_class(self) -> Any | None:
        classes = self._catalog.get("scheduling.k8s.io/v1", "priorityclasses")
        chosen = None
        for entry in classes.cache.entries.values():
            found = entry.message()
            if found.globalDefault and (chosen is None or found.value < chosen.value):
                chosen = found
        return chosen


def _of_class(priority_class: Any) -> tuple[int, str]:
    return priority_class.value, priority_class.preemptionPolicy or "PreemptLowerPriority"
