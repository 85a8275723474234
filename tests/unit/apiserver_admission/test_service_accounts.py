"""ServiceAccount: whose pods get which volume, and which accounts are refused."""

from __future__ import annotations

from typing import Any

import pytest
from admitted import Shelf, pod

from services.apiserver.admission.chain import UPDATE
from services.apiserver.admission.service_accounts import MOUNT_PATH, ServiceAccounts
from tillerman.api.status import StatusError


@pytest.fixture
def shelf() -> Shelf:
    """A cluster with a controller manager: kube-system has its account."""
    shelf = Shelf()
    shelf.put("v1", "ServiceAccount", "default", "kube-system")
    shelf.put("v1", "ServiceAccount", "default", "space", imagePullSecrets=[{"name": "pull"}])
    shelf.put("v1", "ServiceAccount", "quiet", "space", automountServiceAccountToken=False)
    annotations = {"kubernetes.io/enforce-mountable-secrets": "true"}
    shelf.put("v1", "ServiceAccount", "strict", "space", metadata={"annotations": annotations}, secrets=[{"name": "s"}])
    return shelf


async def admitted(shelf: Shelf, obj: Any) -> Any:
    plugin, attributes = ServiceAccounts(shelf.catalog, shelf), shelf.attributes(obj)
    await plugin.admit(attributes)
    await plugin.validate(attributes)
    return obj.spec


async def test_a_pod_gets_its_account_and_the_files(shelf: Shelf) -> None:
    obj = pod(initContainers=[{"name": "i", "image": "i"}])
    own = obj.spec.containers.add(name="own", image="i")
    own.volumeMounts.add(name="mine", mountPath=MOUNT_PATH)
    obj.spec.volumes.add(name="mine")
    spec = await admitted(shelf, obj)
    assert (spec.serviceAccountName, spec.serviceAccount) == ("default", "default")
    assert [secret.name for secret in spec.imagePullSecrets] == ["pull"]
    volume = spec.volumes[-1]
    assert volume.name.startswith("kube-api-access-") and len(volume.name) == len("kube-api-access-") + 5
    token, certificate, namespace = volume.volumeSource.projected.sources
    assert (token.serviceAccountToken.path, token.serviceAccountToken.expirationSeconds) == ("token", 3607)
    assert certificate.configMap.localObjectReference.name == "kube-root-ca.crt"
    assert namespace.downwardAPI.items[0].fieldRef.fieldPath == "metadata.namespace"
    for container in (spec.initContainers[0], spec.containers[0]):
        (mount,) = container.volumeMounts
        assert (mount.name, mount.mountPath, mount.readOnly) == (volume.name, MOUNT_PATH, True)
    assert [mount.name for mount in own.volumeMounts] == ["mine"]
    count = len(spec.volumes)
    await admitted(shelf, obj)
    assert len(spec.volumes) == count


@pytest.mark.parametrize(
    ("spec", "mounts"),
    [
        ({"automountServiceAccountToken": False}, False),
        ({"serviceAccountName": "quiet"}, False),
        ({"serviceAccountName": "quiet", "automountServiceAccountToken": True}, True),
    ],
)
async def test_who_wants_no_token_gets_none(shelf: Shelf, spec: dict[str, Any], mounts: bool) -> None:
    found = await admitted(shelf, pod(**spec))
    assert bool(found.volumes) is mounts


@pytest.mark.parametrize(
    ("change", "account", "mounts"),
    [
        ({}, "default", ["mine", "token"]),
        ({"serviceAccountName": "default", "serviceAccount": "default"}, "default", ["mine", "token"]),
        # Another account is a change, which is not for this plugin to hide.
        ({"serviceAccountName": "quiet"}, "quiet", ["mine"]),
    ],
)
async def test_an_update_keeps_the_account_and_its_files(
    shelf: Shelf, change: dict[str, Any], account: str, mounts: list[str]
) -> None:
    manifest: dict[str, Any] = {"volumes": [{"name": "v", "emptyDir": {}}], "imagePullSecrets": [{"name": "own"}]}
    manifest["containers"] = [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
    old = pod(**manifest)
    await admitted(shelf, old)
    new = pod(**manifest, **change)
    plugin = ServiceAccounts(shelf.catalog, shelf)
    for _ in range(2):
        await plugin.admit(shelf.attributes(new, UPDATE, old=old))
    assert new.spec.serviceAccountName == account
    names = ["mine" if mount.name == "v" else "token" for mount in new.spec.containers[0].volumeMounts]
    assert (names, len(new.spec.volumes)) == (mounts, len(mounts))
    if account == "default":
        assert new.spec == old.spec


async def test_accounts_must_exist_where_accounts_are_kept(shelf: Shelf) -> None:
    with pytest.raises(StatusError) as refused:
        await admitted(shelf, pod(serviceAccountName="ghost"))
    assert refused.value.message == (
        'pods "p" is forbidden: error looking up service account space/ghost: serviceaccount "ghost" not found'
    )
    alone = await admitted(Shelf(), pod())
    assert not alone.serviceAccountName and not alone.volumes


async def test_an_account_may_name_the_secrets_of_its_pods(shelf: Shelf) -> None:
    allowed = {"name": "v", "secret": {"secretName": "s"}}
    await admitted(shelf, pod(serviceAccountName="strict", volumes=[allowed]))
    other = {"name": "v", "secret": {"secretName": "t"}}
    with pytest.raises(StatusError, match=r'secret\.secretName="t" is not allowed because service account strict does'):
        await admitted(shelf, pod(serviceAccountName="strict", volumes=[other]))


async def test_mirror_pods_refer_to_nothing(shelf: Shelf) -> None:
    obj = pod()
    obj.metadata.annotations["kubernetes.io/config.mirror"] = "x"
    assert not (await admitted(shelf, obj)).serviceAccountName
    obj.spec.serviceAccountName = "default"
    with pytest.raises(StatusError, match="a mirror pod may not reference service accounts"):
        await admitted(shelf, obj)
