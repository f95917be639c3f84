"""Records that one claim handed its owner without reading them, until they are acknowledged.

The group's position stays before these records, and moves past them only with their acknowledgement
(lua/delivery.lua, ``pass``). So whatever goes wrong ends in the same way: the claim goes back to
what is acknowledged, and reads.
"""

from __future__ import annotations

import asyncio
from collections import deque

from transport.contract import AckEnded
from transport.redis.delivery.joint_acks import Passed
from transport.redis.records import sort_key

__all__ = ["UnreadDeliveries"]


class UnreadDeliveries:
    """Records that were taken, then passed by the claim's owner, then acknowledged."""

    def __init__(self) -> None:
        self._position = ""  # of the group, while there is anything here
        self._taken: deque[tuple[str, str, int]] = deque()  # through, its message, how many
        self._through, self._message = "", ""
        self._count = 0  # of what is passed, and not being acknowledged
        self._acking = False
        self._told: deque[tuple[str, AckEnded]] = deque()
        self._none_left: asyncio.Future[None] | None = None

    @property
    def any(self) -> bool:
        """Whether anything is not yet acknowledged."""
        return bool(self._taken or self._count or self._acking)

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits until there is nothing here."""
        return self._none_left is not None

    @property
    def may_drop(self) -> bool:
        """Whether no acknowledgement is under way, or due."""
        return not self._count and not self._acking

    def take(self, position: str, through: str, message: str, count: int) -> None:
        """Note records that were handed over; before the first, the group is at ``position``."""
        if not self.any:
            self._position = position
        self._taken.append((through, message, count))

    def take_back(self) -> None:
        """Forget the last ones noted: they were not taken."""
        self._taken.pop()
        self._look()

    def passed(self, through: str, ended: AckEnded | None) -> bool:
        """Note that everything up to ``through`` is stored; whether that was handed over."""
        taken = self._taken
        # Mostly it is the first. Of each partition in each statement this is asked.
        if not taken or (taken[0][0] != through and all(last != through for last, *_ in taken)):
            return False
        self._through = ""
        while self._through != through:
            self._through, self._message, count = taken.popleft()
            self._count += count
        if ended:
            self._told.append((through, ended))
        return True

    def begin_ack(self) -> Passed | None:
        """Return what is to be acknowledged now, if anything."""
        if not self._count:
            return None
        passed = Passed(self._position, self._through, self._message, self._count)
        self._count = 0
        self._acking = True
        return passed

    def acked(self, through: str, began: int) -> None:
        """Note where the group is now, and tell those who asked to be."""
        self._position = through
        limit = sort_key(through)
        while self._told and sort_key(self._told[0][0]) <= limit:
            self._told.popleft()[1](began)
        self._acking = False
        self._look()

    def drop(self) -> str:
        """Forget all; return up to where everything is acknowledged for certain."""
        self._taken.clear()
        self._count = 0
        self._acking = False
        told, self._told = self._told, deque()
        for _, ended in told:
            ended(None)
        self._look()
        return self._position

    async def none_left(self) -> None:
        """Return once there is nothing here."""
        while self.any:
            if self._none_left is None:
                self._none_left = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._none_left)

    def _look(self) -> None:
        waiter = self._none_left
        if waiter is not None and not self.any:
            self._none_left = None
            waiter.set_result(None)
