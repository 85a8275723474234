"""Claims and volumes that are in use stay until they are not."""

from __future__ import annotations

from managed_cluster import Cluster

from tillerman.api.status import StatusError, is_not_found
from tillerman.pb.k8s import core_v1_pb2 as core


async def test_a_claim_goes_when_its_last_pod_has_gone(cluster: Cluster) -> None:
    claims = cluster.client.resource(core.PersistentVolumeClaim)
    pods = cluster.client.resource(core.Pod)
    claim = core.PersistentVolumeClaim()
    claim.metadata.name, claim.metadata.namespace = "data", cluster.namespace
    claim.spec.accessModes.append("ReadWriteOnce")
    claim.spec.resources.requests["storage"].string = "1Gi"
    made = await claims.create(claim)
    assert list(made.metadata.finalizers) == ["kubernetes.io/pvc-protection"]
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = "user", cluster.namespace
    pod.spec.containers.add(name="c", image="i")
    pod.spec.volumes.add(name="v").volumeSource.persistentVolumeClaim.claimName = "data"
    await pods.create(pod)

    async def placed() -> bool:
        return bool((await pods.get("user", cluster.namespace)).spec.nodeName)

    await cluster.until(placed)
    await claims.delete("data", cluster.namespace)
    stays = await claims.get("data", cluster.namespace)
    assert stays.metadata.HasField("deletionTimestamp") and stays.metadata.finalizers
    await pods.delete("user", cluster.namespace)

    async def gone() -> bool:
        try:
            await claims.get("data", cluster.namespace)
        except StatusError as error:
            return is_not_found(error)
        return False

    await cluster.until(gone)


async def test_a_volume_that_nobody_has_bound_goes_at_once(cluster: Cluster) -> None:
    volumes = cluster.client.resource(core.PersistentVolume)
    volume = core.PersistentVolume()
    volume.metadata.name = f"pv-{cluster.namespace}"
    volume.spec.capacity["storage"].string = "1Gi"
    volume.spec.accessModes.append("ReadWriteOnce")
    volume.spec.persistentVolumeSource.hostPath.path = "/nowhere"
    await volumes.create(volume)
    name = volume.metadata.name
    await volumes.delete(name)

    async def gone() -> bool:
        try:
            await volumes.get(name)
        except StatusError as error:
            return is_not_found(error)
        return False

    await cluster.until(gone)
