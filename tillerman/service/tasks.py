"""Root tasks: those that a service cannot live without."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any


class RootTaskEnded(Exception):
    """A root task returned although the service is not shutting down."""


class RootTasks(asyncio.TaskGroup):
    """A task group in which a task that returns is as bad as one that raises: the group ends, and says which it was.

    `failed` names the first task that ended, once one has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed = ""
        self._members: set[asyncio.Task[Any]] = set()
        self._orderly = False

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return self._add(self._guard(coro, name or str(getattr(coro, "__qualname__", "task"))), name, context)

    def create_finite(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """A task that may return, but not raise."""
        return self._add(self._note_failure(coro, name), name, None)

    def expect_ends(self) -> None:
        """From now on tasks may return: the service is shutting down."""
        self._orderly = True

    def cancel_all(self) -> None:
        self._orderly = True
        for task in self._members:
            task.cancel()

    def _add(self, coro: Coroutine[Any, Any, Any], name: str | None, context: Context | None) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        self._members.add(task)
        task.add_done_callback(self._members.discard)
        return task

    async def _note_failure(self, coro: Coroutine[Any, Any, Any], name: str) -> Any:
        try:
            return await coro
        except Exception:
            self.failed = self.failed or name
            raise

    async def _guard(self, coro: Coroutine[Any, Any, Any], name: str) -> None:
        await self._note_failure(coro, name)
        if self._orderly:
            return
        self.failed = self.failed or name
        raise RootTaskEnded(f"root task {name!r} ended")
