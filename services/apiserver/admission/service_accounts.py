"""ServiceAccount: every pod runs as an account of its namespace, and finds that account's token in its files."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.admission.parsed import Decoded
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.identity import SUFFIX_ALPHABET
from services.apiserver.registry.reading import Reader
from tillerman.pb.k8s import core_v1_pb2 as core

DEFAULT = "default"
MIRROR = "kubernetes.io/config.mirror"
ENFORCE_SECRETS = "kubernetes.io/enforce-mountable-secrets"
VOLUME_PREFIX = "kube-api-access-"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
# An hour and some seconds, by which tokens that nobody asked for explicitly are told from others.
TOKEN_SECONDS = 3607
FILE_MODE = 0o644
# The account "default" of a new namespace is on its way.
TRIES = 10


class ServiceAccounts(BasePlugin):
    """Pods whose account does not exist are refused wherever accounts are kept.

    An API server that runs alone has nobody to make the accounts "default", so there a pod without an account stays
    without. Where kube-system has such an account there is a controller manager, and the rule holds everywhere.

    An update keeps the account and its files where it leaves them out, as Priority keeps the priority: the manifest
    that a pod was made from can be put again.
    """

    operations = frozenset({CREATE, UPDATE})
    resources = frozenset({("", "pods")})
    reads = frozenset({("v1", "serviceaccounts")})

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader
        self._decoded = Decoded()

    async def admit(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        pod = attributes.obj
        spec = pod.spec
        if attributes.operation == UPDATE:
            keep(spec, attributes.old.spec)
            return
        if MIRROR in pod.metadata.annotations:
            return
        name = spec.serviceAccountName or DEFAULT
        account = await self._account(attributes, name)
        if account is None:
            return
        spec.serviceAccountName = spec.serviceAccount = name
        if _automounts(account, spec):
            mount_token(spec, account.metadata.uid)
        if not spec.imagePullSecrets:
            spec.imagePullSecrets.extend(account.imagePullSecrets)

    async def validate(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        pod = attributes.obj
        if attributes.operation == UPDATE:
            return
        if MIRROR in pod.metadata.annotations:
            _check_mirror(attributes)
            return
        if not pod.spec.serviceAccountName:
            if not self._kept():
                return
            name = f"{attributes.namespace}/{pod.metadata.name}"
            raise refused(attributes, f"no service account specified for pod {name}")
        account = await self._account(attributes, pod.spec.serviceAccountName)
        if account is not None and account.metadata.annotations.get(ENFORCE_SECRETS) == "true":
            _check_secrets(attributes, account)

    def _cached(self, namespace: str, name: str) -> Any | None:
        accounts = self._catalog.get("v1", "serviceaccounts")
        entry = accounts.cache.entries.get(accounts.key(namespace, name))
        return None if entry is None else self._decoded.of(entry)

    async def _account(self, attributes: Attributes, name: str) -> Any | None:
        """None where there are no accounts at all."""
        namespace = attributes.namespace
        found = self._cached(namespace, name)
        if found is not None or not self._kept():
            return found
        accounts = self._catalog.get("v1", "serviceaccounts")
        pause = random.uniform(0.1, 0.2)
        for attempt in range(TRIES if name == DEFAULT else 1):
            if attempt:
                await asyncio.sleep(pause)
            entry = await self._reader.fresh(accounts, accounts.key(namespace, name))
            if entry is not None:
                return entry.message()
        detail = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise refused(attributes, detail)

    def _kept(self) -> bool:
        accounts = self._catalog.get("v1", "serviceaccounts")
        return accounts.key("kube-system", DEFAULT) in accounts.cache.entries


def _automounts(account: Any, spec: Any) -> bool:
    for given in (spec, account):
        if given.HasField("automountServiceAccountToken"):
            return bool(given.automountServiceAccountToken)
    return True


def mount_token(spec: Any, uid: str) -> None:
    """The volume with token, CA and namespace, in every container that has nothing at that path yet.

    Its name follows from the account's ``uid``, so that pods of one template stay alike (see strategy/alike.py).
    """
    volume = next((v.name for v in spec.volumes if v.name.startswith(VOLUME_PREFIX)), "")
    name = volume or VOLUME_PREFIX + _suffix(uid)
    needed = False
    for container in (*spec.initContainers, *spec.containers):
        if not any(mount.mountPath == MOUNT_PATH for mount in container.volumeMounts):
            container.volumeMounts.add(name=name, readOnly=True, mountPath=MOUNT_PATH)
            needed = True
    if needed and not volume:
        added = spec.volumes.add(name=name)
        added.volumeSource.projected.CopyFrom(TOKEN_VOLUME)


def keep(new: Any, old: Any) -> None:
    """The account and its files stay in the updated spec, where nothing else has taken their place."""
    if not (new.serviceAccountName or new.serviceAccount):
        new.serviceAccountName, new.serviceAccount = old.serviceAccountName, old.serviceAccount
    if new.serviceAccountName != old.serviceAccountName:
        return
    known = {volume.name for volume in new.volumes}
    for position, volume in enumerate(old.volumes):
        if volume.name.startswith(VOLUME_PREFIX) and volume.name not in known:
            new.volumes.insert(position, volume)
            _keep_mounts(new, old, volume.name)


def _keep_mounts(new: Any, old: Any, volume: str) -> None:
    before = {container.name: container for container in (*old.initContainers, *old.containers)}
    for container in (*new.initContainers, *new.containers):
        mounts = before[container.name].volumeMounts if container.name in before else ()
        for position, mount in enumerate(mounts):
            free = all(other.mountPath != MOUNT_PATH for other in container.volumeMounts)
            if mount.name == volume and mount.mountPath == MOUNT_PATH and free:
                container.volumeMounts.insert(position, mount)


@lru_cache(256)
def _suffix(uid: str) -> str:
    return "".join(SUFFIX_ALPHABET[byte % len(SUFFIX_ALPHABET)] for byte in hashlib.sha256(uid.encode()).digest()[:5])


def _token_volume() -> core.ProjectedVolumeSource:
    volume = core.ProjectedVolumeSource(defaultMode=FILE_MODE)
    token = volume.sources.add().serviceAccountToken
    token.path, token.expirationSeconds = "token", TOKEN_SECONDS
    certificate = volume.sources.add().configMap
    certificate.localObjectReference.name = ROOT_CA
    certificate.items.add(key="ca.crt", path="ca.crt")
    namespace = volume.sources.add().downwardAPI.items.add(path="namespace")
    namespace.fieldRef.apiVersion, namespace.fieldRef.fieldPath = "v1", "metadata.namespace"
    return volume


TOKEN_VOLUME = _token_volume()


def _check_mirror(attributes: Attributes) -> None:
    spec = attributes.obj.spec
    if spec.serviceAccountName:
        raise refused(attributes, "a mirror pod may not reference service accounts")
    if any(True for _ in _secrets(spec)):
        raise refused(attributes, "a mirror pod may not reference secrets")
    for volume in spec.volumes:
        if any(source.HasField("serviceAccountToken") for source in volume.volumeSource.projected.sources):
            raise refused(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def _check_secrets(attributes: Attributes, account: Any) -> None:
    """An account may name the secrets that its pods are allowed to use."""
    spec, allowed = attributes.obj.spec, {secret.name for secret in account.secrets}
    name = account.metadata.name
    for what, secret in _secrets(spec):
        if secret not in allowed:
            detail = f'{what} with secret.secretName="{secret}" is not allowed because service account {name} does not '
            raise refused(attributes, f"{detail}reference that secret")
    pulls = {secret.name for secret in account.imagePullSecrets}
    for index, reference in enumerate(spec.imagePullSecrets):
        if reference.name not in pulls:
            raise refused(
                attributes,
                f'imagePullSecrets[{index}].name="{reference.name}" is not allowed because service account {name} '
                "does not reference that imagePullSecret",
            )


def _secrets(spec: Any) -> Iterator[tuple[str, str]]:
    """(where, name) of every secret that the containers get to see."""
    for volume in spec.volumes:
        source = volume.volumeSource
        if source.HasField("secret"):
            yield "volume", source.secret.secretName
        for part in source.projected.sources:
            if part.HasField("secret"):
                yield "volume", part.secret.localObjectReference.name
    for container in (*spec.initContainers, *spec.containers):
        for variable in container.env:
            if variable.valueFrom.HasField("secretKeyRef"):
                yield f"env var {variable.name}", variable.valueFrom.secretKeyRef.localObjectReference.name
        for source in container.envFrom:
            if source.HasField("secretRef"):
                yield "envFrom", source.secretRef.localObjectReference.name
