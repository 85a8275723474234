"""tiller-scheduler: finds a node for every pod that has none.

Root tasks: the informers, the event recorder, and (while leading) the scheduling loop with its writer. A standby keeps
its informers warm, so a change of leader costs no relist.
"""

import asyncio
import sys
from collections.abc import Sequence

from services.scheduler.framework import Profile
from services.scheduler.observer import Observer
from services.scheduler.options import SchedulerOptions
from services.scheduler.queue import SchedulingQueue
from services.scheduler.scheduler import Scheduler
from services.scheduler.servicer import SchedulerServicer
from services.scheduler.snapshot import Snapshot
from services.scheduler.template import TemplateCache
from services.scheduler.writer import Writer
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.client.leader import LeaderElector
from tillerman.pb.api import scheduler_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import policy_v1_pb2 as policy
from tillerman.service import Component, ServiceRuntime, run

COMPONENT = Component("kube-scheduler")


def main(argv: Sequence[str] | None = None) -> int:
    return run(COMPONENT, options_cls=SchedulerOptions, start=start, argv=argv)


async def start(runtime: ServiceRuntime[SchedulerOptions]) -> None:
    options, clock, client = runtime.options, runtime.clock, runtime.client()
    informers = InformerFactory(client, clock=clock)
    recorder = EventRecorder(client, options.scheduler_name, clock=clock)
    budgets = informers.informer(policy.PodDisruptionBudget)
    pods = informers.informer(core.Pod)
    profile = Profile.default()
    snapshot, templates = Snapshot(), TemplateCache()
    queue = SchedulingQueue(clock, profile.may_help)
    writer = Writer(client, clock, scheduler_name=options.scheduler_name)
    scheduler = Scheduler(
        name=options.scheduler_name,
        profile=profile,
        snapshot=snapshot,
        queue=queue,
        writer=writer,
        recorder=recorder,
        clock=clock,
        budgets=budgets.list,
    )
    Observer(scheduler, templates, writer).watch(informers)
    runtime.add_servicer(
        scheduler_pb2_grpc.add_SchedulerServicer_to_server, SchedulerServicer(scheduler, templates, pods.get, clock)
    )

    async def work() -> None:
        await informers.wait_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.run(), name="scheduler-writer")
            group.create_task(scheduler.run(), name="scheduler-loop")

    async def lead() -> None:
        elector = LeaderElector(
            client,
            "kube-scheduler" if options.scheduler_name == "default-scheduler" else options.scheduler_name,
            identity=runtime.identity,
            lease_seconds=options.leader_elect_lease_duration,
            renew=options.leader_elect_renew_deadline,
            retry=options.leader_elect_retry_period,
            clock=clock,
        )
        await elector.run(work)

    await informers.start(runtime.task_group)
    runtime.task_group.create_task(recorder.run(), name="event-recorder")
    runtime.task_group.create_task(lead() if options.leader_elect else work(), name="scheduler")
    synced = runtime.wait_for("informers")

    async def announce() -> None:
        await informers.wait_synced()
        synced()

    runtime.spawn(announce(), name="scheduler-synced")
    runtime.on_shutdown(recorder.flush)


if __name__ == "__main__":
    sys.exit(main())
