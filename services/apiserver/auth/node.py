"""The node authorizer: a kubelet reads what its pods need and writes what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.apiserver.auth.authorize import Granted
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Target

READ = frozenset({"get", "list", "watch"})
# What every kubelet may read as a whole.
OPEN = frozenset({"pods", "services", "nodes", "csidrivers", "runtimeclasses", "persistentvolumes", "csinodes"})
# What a kubelet may read by name while a pod on its node refers to it.
GUARDED = frozenset({"configmaps", "secrets", "persistentvolumeclaims"})


class NodeRule:
    """An auth.authorize.Rule for users system:node:<name> of the group system:nodes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def allows(self, user: User, verb: str, target: Target) -> bool:
        if "system:nodes" not in user.groups or not user.name.startswith("system:node:"):
            return False
        node = user.name.removeprefix("system:node:")
        resource = target.resource
        if verb in READ:
            if resource in OPEN:
                return True
            if resource in GUARDED:
                return bool(target.name) and self._refers(node, target)
        if resource == "nodes":
            own = target.name in ("", node)
            return own and (verb == "create" or (verb in ("update", "patch") and target.name == node))
        if resource == "leases" and target.namespace == "kube-node-lease":
            return target.name in ("", node) and verb in ("get", "create", "update", "patch", "delete")
        if resource == "pods":
            return self._pod(node, verb, target)
        if resource == "serviceaccounts":
            return verb == "create" and target.subresource == "token" and self._refers(node, target)
        if resource == "events":
            return verb in ("create", "update", "patch")
        if resource == "certificatesigningrequests":
            return verb in ("create", "get", "list", "watch")
        return resource in ("tokenreviews", "subjectaccessreviews") and verb == "create"

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        return False

    def granted(self, user: User, namespace: str) -> Granted:
        return Granted(unknown=["node authorizer does not support user rule resolution"])

    def _pod(self, node: str, verb: str, target: Target) -> bool:
        if verb == "create" and not target.subresource:
            # Mirror pods of static pods.
            return True
        if verb not in ("update", "patch", "delete", "create"):
            return False
        pods = self._catalog.get("v1", "pods")
        entry = pods.cache.entries.get(pods.key(target.namespace, target.name))
        # A pod that is gone already is NotFound to its kubelet, not forbidden.
        return entry is None or entry.fields(pods.extract)["spec.nodeName"] == node

    def _refers(self, node: str, target: Target) -> bool:
        pods = self._catalog.get("v1", "pods")
        for entry in pods.cache.select(pods.range_prefix(target.namespace)):
            here = entry.fields(pods.extract)["spec.nodeName"] == node
            if here and (target.resource, target.name) in references(entry.message()):
                return True
        return False


def references(pod: Any) -> set[tuple[str, str]]:
    """(resource, name) of everything in the pod's namespace that its kubelet needs."""
    spec = pod.spec
    found = {("secrets", ref.name) for ref in spec.imagePullSecrets}
    found.add(("serviceaccounts", spec.serviceAccountName))
    found.add(("configmaps", "kube-root-ca.crt"))
    for container in (*spec.containers, *spec.initContainers, *spec.ephemeralContainers):
        common = getattr(container, "ephemeralContainerCommon", container)
        found.update(_of_environment(common))
    for volume in spec.volumes:
        found.update(_of_volume(volume.volumeSource))
    return found


def _of_environment(container: Any) -> Iterator[tuple[str, str]]:
    for variable in container.env:
        source = variable.valueFrom
        if source.HasField("configMapKeyRef"):
            yield "configmaps", source.configMapKeyRef.localObjectReference.name
        if source.HasField("secretKeyRef"):
            yield "secrets", source.secretKeyRef.localObjectReference.name
    for source in container.envFrom:
        if source.HasField("configMapRef"):
            yield "configmaps", source.configMapRef.localObjectReference.name
        if source.HasField("secretRef"):
            yield "secrets", source.secretRef.localObjectReference.name


def _of_volume(source: Any) -> Iterator[tuple[str, str]]:
    if source.HasField("configMap"):
        yield "configmaps", source.configMap.localObjectReference.name
    if source.HasField("secret"):
        yield "secrets", source.secret.secretName
    if source.HasField("persistentVolumeClaim"):
        yield "persistentvolumeclaims", source.persistentVolumeClaim.claimName
    for part in source.projected.sources:
        if part.HasField("configMap"):
            yield "configmaps", part.configMap.localObjectReference.name
        if part.HasField("secret"):
            yield "secrets", part.secret.localObjectReference.name
