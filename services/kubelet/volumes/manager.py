"""VolumeManager: makes a pod's volumes, keeps those made of objects current, and removes them.

One task refreshes volumes whose ConfigMap, Secret or token changed; mounting is called by pod workers. File work is
done in threads.
"""

import asyncio
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from services.kubelet.references import References
from services.kubelet.volumes.atomic_writer import write_payload
from services.kubelet.volumes.payload import PayloadSources, VolumeError, is_payload, payload_of, referenced
from services.kubelet.volumes.tokens import TokenSource
from tillerman.api.quantity import value
from tillerman.api.status import StatusError
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
_REFRESH_RETRY_SECONDS = 10.0


@dataclass(slots=True)
class _Mounted:
    pod: core.Pod
    paths: dict[str, Path] = field(default_factory=dict)


class VolumeManager:
    def __init__(
        self,
        client: Client,
        references: References,
        *,
        pods_dir: Path,
        clock: Clock,
        allocatable: Mapping[str, int],
    ) -> None:
        self._client = client
        self._references = references
        self._pods_dir = pods_dir
        self._clock = clock
        self._allocatable = allocatable
        self._tokens = TokenSource(client, clock=clock)
        self._mounted: dict[str, _Mounted] = {}
        self._stale: set[str] = set()
        self._wake = asyncio.Event()

    def pod_dir(self, uid: str) -> Path:
        return self._pods_dir / uid

    async def mount(self, pod: core.Pod) -> None:
        """Makes every volume of the pod. Raises VolumeError with what is missing."""
        uid = pod.metadata.uid
        mounted = self._mounted.setdefault(uid, _Mounted(pod))
        mounted.pod = pod
        for volume in pod.spec.volumes:
            try:
                mounted.paths[volume.name] = await self._mount_one(pod, volume)
            except (VolumeError, OSError, StatusError) as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error

    def update(self, pod: core.Pod) -> None:
        """A pod changed: its labels and annotations may be in a volume."""
        mounted = self._mounted.get(pod.metadata.uid)
        if mounted is not None:
            before, mounted.pod = mounted.pod.metadata, pod
            if before.labels != pod.metadata.labels or before.annotations != pod.metadata.annotations:
                self._note(pod.metadata.uid)

    def path_of(self, pod: core.Pod, volume: str) -> Path:
        """Raises VolumeError for a volume that is not mounted."""
        mounted = self._mounted.get(pod.metadata.uid)
        if mounted is None or volume not in mounted.paths:
            raise VolumeError(f'volume "{volume}" is not mounted')
        return mounted.paths[volume]

    async def unmount(self, uid: str) -> None:
        """Removes everything of the pod from this machine, except what hostPath volumes point to."""
        self._references.unwatch(uid)
        self._tokens.forget(uid)
        self._mounted.pop(uid, None)
        self._stale.discard(uid)
        await asyncio.to_thread(remove_tree, self._pods_dir / uid)

    async def run(self) -> None:
        """Refreshes until cancelled."""
        while True:
            due = self._tokens.next_refresh()
            timeout = max(due - self._clock.time(), 1.0) if due is not None else None
            await self._wait(timeout)
            self._stale |= self._tokens.due()
            stale, self._stale = self._stale, set()
            for uid in stale:
                await self._refresh(uid)

    async def _wait(self, timeout: float | None) -> None:
        self._wake.clear()
        if self._stale:
            return
        timer = self._clock.call_later(timeout, self._wake.set) if timeout is not None else None
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    async def _refresh(self, uid: str) -> None:
        mounted = self._mounted.get(uid)
        if mounted is None:
            return
        try:
            for volume in mounted.pod.spec.volumes:
                if is_payload(volume) and volume.name in mounted.paths:
                    await self._write(mounted.pod, volume, mounted.paths[volume.name])
        except (VolumeError, OSError, StatusError) as error:
            # What is there stays; a deleted ConfigMap does not take files from a running pod.
            log.warning("volume_refresh_failed", pod=mounted.pod.metadata.name, error=str(error))
            self._clock.call_later(_REFRESH_RETRY_SECONDS, lambda: self._note(uid))

    def _note(self, uid: str) -> None:
        if uid in self._mounted:
            self._stale.add(uid)
            self._wake.set()

    async def _mount_one(self, pod: core.Pod, volume: core.Volume) -> Path:
        source = volume.volumeSource
        if source.HasField("hostPath"):
            return await asyncio.to_thread(_host_path, source.hostPath)
        if source.HasField("persistentVolumeClaim"):
            return await self._claimed(pod, source.persistentVolumeClaim.claimName)
        folder = self._pods_dir / pod.metadata.uid / "volumes" / volume.name
        if is_payload(volume):
            await self._write(pod, volume, folder)
            return folder
        if source.HasField("emptyDir") or not source.ListFields():
            await asyncio.to_thread(_empty_dir, folder, source.emptyDir, _group(pod))
            return folder
        kind = source.ListFields()[0][0].json_name
        raise VolumeError(f"volumes of type {kind} are not supported by this kubelet")

    async def _write(self, pod: core.Pod, volume: core.Volume, folder: Path) -> None:
        namespace, uid = pod.metadata.namespace, pod.metadata.uid
        config_maps, secrets = referenced(volume)
        # Objects for payload_of; watched from now on, so that changes reach the files.
        for name in config_maps:
            self._references.config_maps.watch(namespace, name, uid, lambda: self._note(uid))
        for name in secrets:
            self._references.secrets.watch(namespace, name, uid, lambda: self._note(uid))
        sources = PayloadSources(
            config_maps={name: await self._references.config_maps.get(namespace, name) for name in config_maps},
            secrets={name: await self._references.secrets.get(namespace, name) for name in secrets},
            tokens={
                projection.serviceAccountToken.path: await self._tokens.token(pod, projection.serviceAccountToken)
                for projection in volume.volumeSource.projected.sources
                if projection.HasField("serviceAccountToken")
            },
            allocatable=self._allocatable,
        )
        self._wake.set()
        payload = payload_of(pod, volume, sources)
        await asyncio.to_thread(write_payload, folder, payload, group=_group(pod))

    async def _claimed(self, pod: core.Pod, claim_name: str) -> Path:
        """Persistent volumes that are a directory of this machine: hostPath and local."""
        claim = await self._client.resource(core.PersistentVolumeClaim).get(claim_name, pod.metadata.namespace)
        if not claim.spec.volumeName:
            raise VolumeError(f'persistentvolumeclaim "{claim_name}" is not bound to a volume')
        volume = await self._client.resource(core.PersistentVolume).get(claim.spec.volumeName)
        source = volume.spec.persistentVolumeSource
        if source.HasField("hostPath"):
            return await asyncio.to_thread(_host_path, source.hostPath)
        if source.HasField("local"):
            return Path(source.local.path)
        raise VolumeError(f'persistentvolume "{volume.metadata.name}" is of a type that this kubelet does not support')


def _group(pod: core.Pod) -> int | None:
    context = pod.spec.securityContext
    return context.fsGroup if context.HasField("fsGroup") and os.geteuid() == 0 else None


def _empty_dir(folder: Path, source: core.EmptyDirVolumeSource, group: int | None) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    if source.medium == "Memory" and os.geteuid() == 0:
        limit = value(source.sizeLimit) if source.HasField("sizeLimit") else 0
        options = "mode=0777" + (f",size={limit}" if limit else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tillerman-tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    os.chmod(folder, 0o777)
    if group is not None:
        os.chown(folder, -1, group)
        os.chmod(folder, 0o2777)


def _host_path(source: core.HostPathVolumeSource) -> Path:
    path, kind = Path(source.path), source.type
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    elif kind:
        mode = path.stat().st_mode if path.exists() else 0
        test = {
            "Directory": stat.S_ISDIR,
            "File": stat.S_ISREG,
            "Socket": stat.S_ISSOCK,
            "CharDevice": stat.S_ISCHR,
            "BlockDevice": stat.S_ISBLK,
        }.get(kind)
        if test is None or not test(mode):
            raise VolumeError(f"hostPath type check failed: {path} is not a {kind.lower()}")
    elif not path.exists():
        # As Docker's bind mounts do.
        path.mkdir(parents=True)
    return path


def remove_tree(folder: Path) -> None:
    """Removes a pod's directory; what is mounted below it is unmounted first, never descended into."""
    prefix = f"{folder}/"
    try:
        mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        mounts = []
    for target in sorted((m for m in mounts if m.startswith(prefix)), key=len, reverse=True):
        subprocess.run(["umount", "-l", target], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
