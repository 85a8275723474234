"""Images for containers: pull policy, credentials, one pull per image at a time, and the back-off of failed pulls.

Called by pod workers; pulls of the same image wait for one another's result.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterable

import structlog

from services.kubelet.references import References
from services.kubelet.runtime.interface import (
    ImageState,
    InvalidImageName,
    RegistryAuth,
    Runtime,
    RuntimeFailure,
)
from tillerman.api.status import StatusError
from tillerman.pb.k8s import core_v1_pb2 as core

log = structlog.get_logger(__name__)
# (event type, reason, message)
Report = Callable[[str, str, str], None]


class ImageProblem(Exception):
    """reason: as a container waits with it (ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ImageManager:
    def __init__(self, runtime: Runtime, references: References) -> None:
        self._runtime = runtime
        self._references = references
        self._pulls: dict[str, asyncio.Task[ImageState]] = {}

    async def ensure(self, pod: core.Pod, container: core.Container, report: Report) -> ImageState:
        """The image, here on the node. Raises ImageProblem, having reported it as events."""
        reference, policy = container.image, container.imagePullPolicy or default_policy(container.image)
        try:
            present = await self._runtime.image(reference)
        except InvalidImageName as error:
            message = f'Failed to apply default image tag "{reference}": {error}'
            report("Warning", "InspectFailed", message)
            raise ImageProblem("InvalidImageName", message) from error
        except RuntimeFailure as error:
            message = f'Failed to inspect image "{reference}": {error}'
            report("Warning", "Failed", message)
            raise ImageProblem("ImageInspectError", message) from error
        if present is not None and policy != "Always":
            report("Normal", "Pulled", f'Container image "{reference}" already present on machine')
            return present
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            report("Warning", "ErrImageNeverPull", message)
            raise ImageProblem("ErrImageNeverPull", message)
        report("Normal", "Pulling", f'Pulling image "{reference}"')
        started = time.monotonic()
        try:
            image = await self._pull(pod, reference)
        except RuntimeFailure as error:
            message = f'Failed to pull image "{reference}": {error}'
            report("Warning", "Failed", message)
            report("Warning", "Failed", "Error: ErrImagePull")
            raise ImageProblem("ErrImagePull", str(error)) from error
        took = time.monotonic() - started
        words = f'Successfully pulled image "{reference}" in {took:.3f}s. Image size: {image.size} bytes.'
        report("Normal", "Pulled", words)
        return image

    async def _pull(self, pod: core.Pod, reference: str) -> ImageState:
        running = self._pulls.get(reference)
        if running is None:
            running = asyncio.create_task(self._pull_with_secrets(pod, reference), name=f"pull {reference}")
            self._pulls[reference] = running
            running.add_done_callback(lambda task: self._pulled(reference, task))
        return await asyncio.shield(running)

    def _pulled(self, reference: str, task: "asyncio.Task[ImageState]") -> None:
        self._pulls.pop(reference, None)
        if not task.cancelled():
            # Whoever waits gets the error; nobody may be waiting any more.
            task.exception()

    async def _pull_with_secrets(self, pod: core.Pod, reference: str) -> ImageState:
        credentials = await self._credentials(pod, reference)
        failure: RuntimeFailure | None = None
        for auth in [*credentials, None]:
            try:
                return await self._runtime.pull(reference, auth)
            except RuntimeFailure as error:
                failure = failure or error
        raise failure or RuntimeFailure(f'cannot pull "{reference}"')

    async def _credentials(self, pod: core.Pod, reference: str) -> list[RegistryAuth]:
        found: list[RegistryAuth] = []
        for ref in pod.spec.imagePullSecrets:
            try:
                secret = await self._references.secrets.get(pod.metadata.namespace, ref.name)
            except StatusError as error:
                log.warning("pull_secret_unavailable", secret=ref.name, error=str(error))
                continue
            if secret is not None:
                found.extend(registry_auths(secret, reference))
        return found

    async def close(self) -> None:
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def default_policy(reference: str) -> str:
    """Always for :latest (also when unspoken), else IfNotPresent."""
    if "@" in reference:
        return "IfNotPresent"
    _, _, tag = reference.rpartition("/")[2].partition(":")
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def registry_of(reference: str) -> str:
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def registry_auths(secret: core.Secret, reference: str) -> Iterable[RegistryAuth]:
    """From a Secret of type kubernetes.io/dockerconfigjson or dockercfg: the entries for the image's registry."""
    try:
        if ".dockerconfigjson" in secret.data:
            entries = json.loads(secret.data[".dockerconfigjson"]).get("auths", {})
        else:
            entries = json.loads(secret.data.get(".dockercfg", b"{}"))
        for server, entry in entries.items():
            if _host(server) != _host(registry_of(reference)):
                continue
            user, password = entry.get("username", ""), entry.get("password", "")
            if entry.get("auth") and not user:
                user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            yield RegistryAuth(user, password, entry.get("identitytoken", ""))
    except (ValueError, AttributeError, TypeError) as error:
        log.warning("bad_pull_secret", secret=secret.metadata.name, error=str(error))


def _host(server: str) -> str:
    host = server.removeprefix("https://").removeprefix("http://").split("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
