"""`run`: the life of a service process.

    options -> logs -> event loop -> ports bound -> start(runtime) -> gRPC served -> ready -> … -> SIGTERM or SIGINT
    -> not ready -> shutdown hooks -> calls ended -> root tasks cancelled and joined -> exit 0

The process ends with 1, and a log line that says why, when `start` raises or any root task ends or raises; with 2 for
options that cannot be used. A second signal, or a shutdown that takes longer than --shutdown-timeout, ends it at once.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import Gauge

from tillerman.service import logs
from tillerman.service.options import OptionsError, ServiceOptions, parse
from tillerman.service.runtime import Component, ServiceRuntime
from tillerman.service.tasks import RootTasks

Opt = TypeVar("Opt", bound=ServiceOptions)

# Objects allocated before the garbage collector looks: servers make many that don't form cycles.
_GC_THRESHOLD = 20_000


def run(
    component: Component | str,
    *,
    options_cls: type[Opt],
    start: Callable[[ServiceRuntime[Opt]], Awaitable[None]],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a service until it is told to stop; returns the exit code."""
    gc.set_threshold(_GC_THRESHOLD, 20, 50)
    component = Component(component) if isinstance(component, str) else component
    try:
        options = parse(
            options_cls,
            sys.argv[1:] if argv is None else argv,
            prog=f"tiller-{component.name.removeprefix('kube-')}",
            defaults=component.option_defaults(),
        )
    except OptionsError as error:
        print(f"{component.name}: {error}", file=sys.stderr)
        return 2
    log = logs.configure(component.name, level=options.log_level, format=options.log_format)
    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        return runner.run(_live(component, options, log, start))


async def _live(
    component: Component, options: Opt, log: Any, start: Callable[[ServiceRuntime[Opt]], Awaitable[None]]
) -> int:
    runtime = ServiceRuntime(component, options, log)
    told_to_stop = _on_signals(log)
    _build_info(component)
    code = 0
    try:
        runtime.listen()
        await runtime.serve_pages()
        code = await _work(runtime, start, told_to_stop)
    except OptionsError as error:
        log.error("cannot start", error=str(error))
        code = 2
    finally:
        try:
            async with asyncio.timeout(options.shutdown_timeout):
                await runtime.close()
        except TimeoutError:
            log.error("connections did not close in time")
    log.info("stopped", exit_code=code)
    return code


async def _work(
    runtime: ServiceRuntime[Opt],
    start: Callable[[ServiceRuntime[Opt]], Awaitable[None]],
    told_to_stop: asyncio.Event,
) -> int:
    """From `start` to the end of the last root task."""
    group = runtime.task_group
    assert isinstance(group, RootTasks)
    code = 0
    shutdown: asyncio.TimerHandle | None = None
    try:
        async with group:
            begun = asyncio.ensure_future(_begin(runtime, start))
            stop = asyncio.ensure_future(told_to_stop.wait())
            try:
                await asyncio.wait({begun, stop}, return_when=asyncio.FIRST_COMPLETED)
                if begun.done():
                    begun.result()
                await stop
            finally:
                # Also when a root task has failed: the service is half dead, so it takes its leave as a whole.
                shutdown = _arm(runtime)
                group.expect_ends()
                for task in (begun, stop):
                    task.cancel()
                await asyncio.gather(begun, stop, return_exceptions=True)
                await asyncio.shield(asyncio.ensure_future(runtime.stop_serving()))
            group.cancel_all()
    except BaseExceptionGroup as failures:
        code = _tell(runtime, group, failures)
    except OptionsError:
        raise
    except Exception as error:
        runtime.log.error("service failed", exc_info=error)
        code = 1
    finally:
        if shutdown is not None:
            shutdown.cancel()
    return code


async def _begin(runtime: ServiceRuntime[Opt], start: Callable[[ServiceRuntime[Opt]], Awaitable[None]]) -> None:
    await start(runtime)
    await runtime.serve()
    runtime.ready()
    gc.freeze()


def _tell(runtime: ServiceRuntime[Any], group: RootTasks, failures: BaseExceptionGroup[BaseException]) -> int:
    """Logs why the service ends; the exit code."""
    leaves = list(_leaves(failures))
    for leaf in leaves:
        if isinstance(leaf, OptionsError):
            raise leaf
    for leaf in leaves:
        runtime.log.error("root task ended" if group.failed else "service failed", task=group.failed, exc_info=leaf)
    return 1


def _leaves(error: BaseException) -> "list[BaseException]":
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _arm(runtime: ServiceRuntime[Any]) -> asyncio.TimerHandle:
    """Ends the process if shutting down takes too long, naming the tasks that are in the way."""

    def overdue() -> None:
        stuck = sorted(task.get_name() for task in asyncio.all_tasks() if not task.done())
        runtime.log.error("shutdown took too long", seconds=runtime.options.shutdown_timeout, tasks=stuck)
        os._exit(1)

    return asyncio.get_running_loop().call_later(runtime.options.shutdown_timeout, overdue)


def _on_signals(log: Any) -> asyncio.Event:
    told = asyncio.Event()

    def handle(name: str) -> None:
        if told.is_set():
            log.warning("second signal: ending at once", signal=name)
            os._exit(1)
        log.info("shutting down", signal=name)
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number.name)
    return told


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new


def _build_info(component: Component) -> None:
    """tillerman_build_info{component,version,python} 1"""
    from tillerman.service.version import VERSION

    info = Gauge("tillerman_build_info", "What this process was built from.", ["component", "version", "python"])
    info.labels(component.name, VERSION, sys.version.split()[0]).set(1)
