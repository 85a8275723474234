"""The manager: constructs the controllers on one set of informers, and runs them while this process leads.

Informers run from the start, so a process that stands by has warm caches; only the leader works its queues off. Every
controller and informer is a task of the group given to `start`: the end of any of them ends the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from services.controller.framework import Controller, ControllerContext, Log
from services.controller.options import ControllerManagerOptions
from tillerman.client.client import Client
from tillerman.client.clock import Clock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.client.leader import LeaderElector

LEASE_NAME = "kube-controller-manager"


class Manager:
    """`controllers` maps names to constructed controllers, in starting order."""

    def __init__(
        self,
        *,
        client: Client,
        clock: Clock,
        options: ControllerManagerOptions,
        log: Log,
        classes: Mapping[str, type[Controller]],
        identity: str,
    ) -> None:
        self._recorders: dict[str, EventRecorder] = {}
        self._client = client
        self._clock = clock
        self._log = log
        self.informers = InformerFactory(client, clock=clock)
        context = ControllerContext(
            client=client,
            informers=self.informers,
            recorder=self._recorder,
            clock=clock,
            options=options,
            log=log,
        )
        self.controllers = {name: made(context) for name, made in classes.items()}
        self._leading = False
        self._elector = (
            LeaderElector(
                client,
                LEASE_NAME,
                identity=identity,
                lease_seconds=options.leader_elect_lease_duration,
                renew=options.leader_elect_renew_deadline,
                retry=options.leader_elect_retry_period,
                clock=clock,
            )
            if options.leader_elect
            else None
        )
        self._identity = identity

    @property
    def is_leader(self) -> bool:
        return self._leading

    @property
    def holder(self) -> str:
        """Who leads, as far as this process knows."""
        return self._elector.leader if self._elector is not None else self._identity

    async def start(self, group: asyncio.TaskGroup) -> None:
        await self.informers.start(group)
        for name, recorder in self._recorders.items():
            group.create_task(recorder.run(), name=f"events-{name}")
        group.create_task(self._lead(), name="controllers")

    async def stop(self) -> None:
        """Sends the events that are still waiting."""
        for recorder in self._recorders.values():
            await recorder.flush()

    async def _lead(self) -> None:
        if self._elector is None:
            await self._work()
        else:
            await self._elector.run(self._work)

    async def _work(self) -> None:
        self._leading = True
        self._log.info("leading", identity=self._identity, controllers=len(self.controllers))
        try:
            async with asyncio.TaskGroup() as group:
                for name, controller in self.controllers.items():
                    group.create_task(controller.run(), name=name)
        finally:
            self._leading = False

    def _recorder(self, component: str) -> EventRecorder:
        recorder = self._recorders.get(component)
        if recorder is None:
            recorder = self._recorders[component] = EventRecorder(self._client, component, clock=self._clock)
        return recorder
