"""Records that a claim handed over to its owner without a read, until they are acknowledged.

The group's position moves past these records only when they are acknowledged (lua/delivery.lua,
``pass``). So every failure ends in the same way: the claim goes back to the last acknowledged
record, and reads.
"""

from __future__ import annotations

import asyncio
from collections import deque

from transport.contract import AckEnded
from transport.redis.delivery.joint_acks import DueAck
from transport.redis.records import sort_key

__all__ = ["UnreadDeliveries"]


class UnreadDeliveries:
    """Records that one claim handed over: taken, then passed by the owner, then acknowledged."""

    def __init__(self) -> None:
        self._position = ""  # the group's position, while there are records here
        self._taken: deque[tuple[str, str, int]] = deque()  # through, its message id, the number
        self._through, self._message = "", ""
        self._count = 0  # records that are passed, and whose acknowledgement has not begun
        self._acking = False
        self._callbacks: deque[tuple[str, AckEnded]] = deque()
        self._none_left: asyncio.Future[None] | None = None

    @property
    def any(self) -> bool:
        """Whether any record is not yet acknowledged."""
        return bool(self._taken or self._count or self._acking)

    @property
    def is_awaited(self) -> bool:
        """Whether a caller of ``none_left`` waits."""
        return self._none_left is not None

    @property
    def may_drop(self) -> bool:
        """Whether no acknowledgement is under way, or due."""
        return not self._count and not self._acking

    def take(self, position: str, through: str, message: str, count: int) -> None:
        """Note records that are handed over.

        Args:
            position: The group's position before the first record.
            through: The offset of the last record.
            message: The message id of the last record.
            count: The number of records.
        """
        if not self.any:
            self._position = position
        self._taken.append((through, message, count))

    def take_back(self) -> None:
        """Forget the records noted last: the owner did not take them."""
        self._taken.pop()
        self._look()

    def passed(self, through: str, ended: AckEnded | None) -> bool:
        """Note that all records through ``through`` are stored.

        Returns whether ``through`` was handed over. If so, ``ended`` is called once it is
        acknowledged.
        """
        taken = self._taken
        # Mostly it is the first. This runs for each partition in each statement.
        if not taken or (taken[0][0] != through and all(last != through for last, *_ in taken)):
            return False
        self._through = ""
        while self._through != through:
            self._through, self._message, count = taken.popleft()
            self._count += count
        if ended:
            self._callbacks.append((through, ended))
        return True

    def begin_ack(self) -> DueAck | None:
        """Return the acknowledgement that is due now, if any."""
        if not self._count:
            return None
        due = DueAck(self._position, self._through, self._message, self._count)
        self._count = 0
        self._acking = True
        return due

    def acked(self, through: str, began: int) -> None:
        """Note that records through ``through`` are acknowledged, and call their ``ended``.

        ``began``: when the call began, in nanoseconds.
        """
        self._position = through
        limit = sort_key(through)
        while self._callbacks and sort_key(self._callbacks[0][0]) <= limit:
            self._callbacks.popleft()[1](began)
        self._acking = False
        self._look()

    def drop(self) -> str:
        """Forget all records; return the last position known to be acknowledged."""
        self._taken.clear()
        self._count = 0
        self._acking = False
        callbacks, self._callbacks = self._callbacks, deque()
        for _, ended in callbacks:
            ended(None)
        self._look()
        return self._position

    async def none_left(self) -> None:
        """Return once all records are acknowledged."""
        while self.any:
            if self._none_left is None:
                self._none_left = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._none_left)

    def _look(self) -> None:
        waiter = self._none_left
        if waiter is not None and not self.any:
            self._none_left = None
            waiter.set_result(None)
