"""Leader election over a coordination.k8s.io/v1 Lease: of several processes of one kind, one works.

A candidate tries every `retry` seconds. It takes the Lease when nobody holds it, or when the holder has not renewed for
`lease_seconds` by the candidate's own clock (clocks of different machines are never compared). The leader renews every
`retry` seconds; if it cannot for `renew` seconds, it stops its work and raises LeadershipLost, before another candidate
may start. A leader that is cancelled stops its work and gives the Lease back, so that the next one starts at once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import Gauge

from tillerman.client.client import Client
from tillerman.client.clock import Clock, RealClock
from tillerman.client.resource import ResourceClient
from tillerman.pb.k8s import coordination_v1_pb2 as coordination

log = logging.getLogger(__name__)

MASTER_STATUS = Gauge(
    "leader_election_master_status",
    "1 when this process leads, 0 when it stands by; label name is the Lease's.",
    ["name"],
)

# Seconds that giving the Lease back may take at shutdown.
_RELEASE_TIMEOUT = 2.0


class LeadershipLost(Exception):
    """The Lease could not be renewed in time, or someone else took it."""


class LeaderElector:
    """Seconds as client-go has them: lease 15, renew 10, retry 2; lease > renew > retry."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str = "kube-system",
        identity: str = "",
        lease_seconds: float = 15.0,
        renew: float = 10.0,
        retry: float = 2.0,
        *,
        clock: Clock | None = None,
        leases: ResourceClient[coordination.Lease] | None = None,
    ) -> None:
        if not lease_seconds > renew > retry > 0:
            raise ValueError(f"lease ({lease_seconds}) > renew ({renew}) > retry ({retry}) > 0 must hold")
        self.identity = identity or _default_identity()
        self.is_leader = False
        self._name = name
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._renew = renew
        self._retry = retry
        self._clock = clock or RealClock()
        self._leases = leases or client.resource(coordination.Lease)
        self._observed: coordination.Lease | None = None
        self._observed_at = 0.0
        MASTER_STATUS.labels(name).set(0)

    @property
    def leader(self) -> str:
        """The identity that was last seen to hold the Lease; empty when nobody does."""
        return self._observed.spec.holderIdentity if self._observed is not None else ""

    async def run(self, on_started: Callable[[], Awaitable[Any]]) -> None:
        """Waits to lead; runs on_started until it ends, we are cancelled or leadership is lost (LeadershipLost)."""
        await self._acquire()
        work = asyncio.ensure_future(self._guarded(on_started))
        renewal = asyncio.ensure_future(self._keep())
        lost = False
        try:
            done, _ = await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
            lost = renewal in done
            for task in done:
                task.result()
        finally:
            self.is_leader = False
            MASTER_STATUS.labels(self._name).set(0)
            await _stop(renewal, work)
            if not lost:
                await self._release()

    async def _guarded(self, on_started: Callable[[], Awaitable[Any]]) -> None:
        await on_started()

    async def _acquire(self) -> None:
        attempt = 0
        while True:
            try:
                if await self._try():
                    break
            except Exception as error:
                level = logging.WARNING if attempt == 3 else logging.DEBUG
                log.log(level, "leader election %s: %s", self._name, error)
                attempt += 1
                await self._clock.sleep(min(self._retry, 0.1 * 2.0**attempt) * random.uniform(0.5, 1.0))
                continue
            if attempt == 0:
                log.info("leader election %s: %s leads, standing by", self._name, self.leader)
            attempt += 1
            await self._clock.sleep(self._retry * random.uniform(1.0, 1.2))
        self.is_leader = True
        MASTER_STATUS.labels(self._name).set(1)
        log.info("leader election %s: %s leads", self._name, self.identity)

    async def _keep(self) -> None:
        """Renews; raises LeadershipLost."""
        renewed_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(min(self._retry, renewed_at + self._renew - self._clock.monotonic()))
            left = renewed_at + self._renew - self._clock.monotonic()
            if left <= 0:
                raise LeadershipLost(f"Lease {self._namespace}/{self._name} not renewed for {self._renew} s")
            try:
                held = await self._within(left, self._try())
            except TimeoutError:
                continue
            except Exception as error:
                log.debug("leader election %s: renewal failed: %s", self._name, error)
                continue
            if not held:
                raise LeadershipLost(f"Lease {self._namespace}/{self._name} was taken by {self.leader}")
            renewed_at = self._clock.monotonic()

    async def _try(self) -> bool:
        """One attempt to take or renew the Lease; True when we hold it. Raises StatusError when the server fails."""
        from tillerman.api.status import is_already_exists, is_conflict, is_not_found

        try:
            lease = await self._leases.get(self._name, self._namespace)
        except Exception as error:
            if not is_not_found(error):
                raise
            lease = coordination.Lease()
            lease.metadata.name, lease.metadata.namespace = self._name, self._namespace
            self._claim(lease)
            try:
                self._observe(await self._leases.create(lease))
            except Exception as refusal:
                if is_already_exists(refusal):
                    return await self._still_ours()
                raise
            return True
        self._observe(lease)
        holder = lease.spec.holderIdentity
        expired = self._clock.monotonic() >= self._observed_at + (lease.spec.leaseDurationSeconds or 0)
        if holder and holder != self.identity and not expired:
            return False
        wanted = coordination.Lease()
        wanted.CopyFrom(lease)
        self._claim(wanted)
        try:
            self._observe(await self._leases.update(wanted))
        except Exception as refusal:
            if is_conflict(refusal):
                return await self._still_ours()
            raise
        return True

    async def _still_ours(self) -> bool:
        """Our write came second: to another candidate's, or to one that left the Lease with us (a label, say)."""
        lease = await self._leases.get(self._name, self._namespace)
        self._observe(lease)
        return lease.spec.holderIdentity == self.identity

    def _claim(self, lease: coordination.Lease) -> None:
        spec = lease.spec
        if spec.holderIdentity != self.identity:
            if spec.HasField("holderIdentity"):
                spec.leaseTransitions += 1
            else:
                spec.leaseTransitions = 0
            _stamp(spec.acquireTime, self._clock.time())
        spec.holderIdentity = self.identity
        spec.leaseDurationSeconds = max(1, round(self._lease_seconds))
        _stamp(spec.renewTime, self._clock.time())

    def _observe(self, lease: coordination.Lease) -> None:
        """A Lease that has changed was alive when we saw it change."""
        if self._observed is None or self._observed.spec != lease.spec:
            self._observed_at = self._clock.monotonic()
        self._observed = lease

    async def _release(self) -> None:
        lease = coordination.Lease()
        if self._observed is None or self._observed.spec.holderIdentity != self.identity:
            return
        lease.CopyFrom(self._observed)
        lease.spec.holderIdentity = ""
        lease.spec.leaseDurationSeconds = 1
        _stamp(lease.spec.renewTime, self._clock.time())
        try:
            await asyncio.shield(self._within(_RELEASE_TIMEOUT, self._leases.update(lease)))
            log.info("leader election %s: %s released the Lease", self._name, self.identity)
        except Exception as error:
            log.info("leader election %s: the Lease was not released: %s", self._name, error)

    async def _within(self, seconds: float, awaitable: Awaitable[Any]) -> Any:
        """The awaitable's result; TimeoutError when the clock says that it took too long."""
        task = asyncio.ensure_future(awaitable)
        timer = self._clock.call_later(seconds, lambda: (task.cancel(), None)[1])
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                task.cancel()
                raise
            raise TimeoutError from None
        finally:
            timer.cancel()


async def _stop(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _stamp(time: Any, seconds: float) -> None:
    time.seconds = int(seconds)
    time.nanos = int(seconds % 1 * 1_000_000) * 1000


def _default_identity() -> str:
    import socket
    import uuid

    return f"{socket.gethostname()}_{uuid.uuid4()}"
