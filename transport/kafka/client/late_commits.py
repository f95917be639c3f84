"""A patch of aiokafka's commits: an expelled member makes none, and a late error is no traceback.

On hearing of it, aiokafka forgets the member's id and generation, and joins again. A commit in
between has neither. That is the form of a commit without a group's membership, which Kafka takes
while the group has no members. So a process that was suspended could set the group back to where it
stood, after another one had gone further and left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import UnknownMemberIdError
from aiokafka.protocol.commit import OffsetCommitRequest

__all__ = ["install"]

_NO_GENERATION = OffsetCommitRequest.DEFAULT_GENERATION_ID


def _only_as_a_member(commit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    # Here, since aiokafka makes the request at once after this, for each attempt.
    async def committing(coordinator: Any, *args: Any) -> None:
        # It runs in a task of its own, which goes on after its caller has given up.
        if task := asyncio.current_task():
            task.add_done_callback(_heard)
        is_in_group = coordinator._subscription.partitions_auto_assigned()  # noqa: SLF001
        if is_in_group and coordinator.generation == _NO_GENERATION:
            raise UnknownMemberIdError(coordinator.group_id)
        await commit(coordinator, *args)

    return committing


def _heard(task: asyncio.Task[Any]) -> None:
    """Retrieve the error, so that asyncio does not log a traceback where nobody waits for it."""
    if not task.cancelled():
        task.exception()


def install() -> None:
    """Apply the patch to all members of groups in this process."""
    name = "_do_commit_offsets"
    setattr(GroupCoordinator, name, _only_as_a_member(getattr(GroupCoordinator, name)))
