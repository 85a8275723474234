"""Images of the Docker Engine: looked up once and remembered until Docker says that its images changed."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from services.kubelet.runtime.docker_engine import Engine
from services.kubelet.runtime.interface import (
    ImageState,
    InvalidImageName,
    NotFoundFailure,
    RegistryAuth,
    RuntimeFailure,
)
from services.kubelet.runtime.references import is_reference, split_reference


class DockerImages:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, ImageState] = {}
        self._generation = 0
        self._lookups: dict[str, asyncio.Future[ImageState | None]] = {}

    def forget(self) -> None:
        """Something changed: what is known is asked again when it is needed."""
        self._known.clear()
        self._generation += 1

    async def image(self, reference: str) -> ImageState | None:
        """Raises InvalidImageName. Lookups of one name at the same time are one call."""
        if not is_reference(reference):
            raise InvalidImageName(f'couldn\'t parse image name "{reference}": invalid reference format')
        known = self._known.get(reference)
        if known is not None:
            return known
        running = self._lookups.get(reference)
        if running is None:
            running = self._lookups[reference] = asyncio.ensure_future(self._look_up(reference))
            running.add_done_callback(lambda _: self._lookups.pop(reference, None))
        return await asyncio.shield(running)

    async def _look_up(self, reference: str) -> ImageState | None:
        generation = self._generation
        try:
            answer = await self._engine.call("inspect_image", lambda client: client.inspect_image(reference))
        except NotFoundFailure:
            return None
        state = ImageState(
            id=answer["Id"],
            names=tuple(answer.get("RepoTags") or ()),
            digests=tuple(answer.get("RepoDigests") or ()),
            size=int(answer.get("Size", 0)),
            user=(answer.get("Config") or {}).get("User", ""),
        )
        if generation == self._generation:
            self._known[reference] = state
        return state

    async def list(self) -> Sequence[ImageState]:
        entries = await self._engine.call("list_images", lambda client: client.images())
        return [
            ImageState(
                id=entry["Id"],
                names=tuple(name for name in entry.get("RepoTags") or () if name != "<none>:<none>"),
                digests=tuple(name for name in entry.get("RepoDigests") or () if not name.startswith("<none>")),
                size=int(entry.get("Size", 0)),
            )
            for entry in entries
        ]

    async def pull(self, reference: str, auth: RegistryAuth | None) -> ImageState:
        """Raises RuntimeFailure with the registry's words."""
        if not is_reference(reference):
            raise InvalidImageName(f'couldn\'t parse image name "{reference}": invalid reference format')
        repository, tag = split_reference(reference)
        config = None
        if auth is not None:
            config = {"username": auth.username, "password": auth.password}
            if auth.identity_token:
                config = {"identitytoken": auth.identity_token}

        def pull(client: Any) -> None:
            for line in client.pull(repository, tag=tag, stream=True, auth_config=config):
                for part in line.splitlines():
                    error = json.loads(part).get("error") if part.strip() else None
                    if error:
                        raise RuntimeFailure(error)

        await self._engine.call("pull_image", pull, pull=True)
        self.forget()
        state = await self.image(reference)
        if state is None:
            raise NotFoundFailure(f'image "{reference}" is not there after it was pulled')
        return state
