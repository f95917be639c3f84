"""The long-lived tasks of a process: a failed task ends the process; a stop ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

__all__ = ["Tasks"]

log = structlog.get_logger(__name__)

Task = asyncio.Task[None]


class Tasks:
    """Long-lived tasks by name."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._may_return: set[Task] = set()

    def add(self, name: str, work: Coroutine[Any, Any, None], *, may_return: bool = False) -> Task:
        """Start ``work``. Unless it ``may_return``, returning before the stop is a failure too."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        if may_return:
            self._may_return.add(task)
        return task

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until ``stop`` is set.

        Raises:
            BaseException: a task failed with this error.
            RuntimeError: a task returned before the stop.
        """
        stopping = asyncio.create_task(stop.wait())
        watched: set[asyncio.Task[Any]] = set(self._tasks)
        try:
            while not stopping.done():
                done, _ = await asyncio.wait(
                    {stopping, *watched}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done & watched:
                    watched.remove(task)
                    task.result()
                    if task not in self._may_return and not stop.is_set():
                        raise RuntimeError(f"the task {task.get_name()!r} ended by itself")
        finally:
            stopping.cancel()

    async def end(self, tasks: Sequence[Task], *, within: float) -> None:
        """Wait for ``tasks``, which were asked to end; cancel the rest after ``within`` seconds."""
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within)
        for task in late:
            log.warning("Cut off", task=task.get_name(), after_seconds=within)
            task.cancel()
        # Log each failure by itself, so that one does not hide another.
        for result, task in zip(
            await asyncio.gather(*tasks, return_exceptions=True), tasks, strict=True
        ):
            if isinstance(result, Exception):
                log.error("Failed while stopping", task=task.get_name(), exc_info=result)

    async def cancel_all(self) -> None:
        """Cancel the tasks that still run, and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
