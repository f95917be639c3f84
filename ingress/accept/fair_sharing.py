"""Fair sharing of memory and slots between clients: no client can take all of them.

A client is identified by its API key. Requests without a key can't be told apart; together they
count as one client, which may take all.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairRoom", "FairSlots"]


class FairRoom:
    """A limited amount, such as bytes. A client may hold at most as much as is still free.

    So one client gets half, two clients get a third each, and something is always left for another
    client. Nothing has to be taken back from earlier clients.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._by_client = Counter[str | None]()
        self.held = 0
        """The amount that all clients together hold."""

    def has_some_for(self, client: str | None) -> bool:
        """Return whether the client may take more."""
        free = self._size - self.held
        return free > 0 if client is None else free > self._by_client[client]

    def take(self, client: str | None, amount: int) -> None:
        """Add ``amount`` to the client's share."""
        self.held += amount
        self._by_client[client] += amount

    def give_back(self, client: str | None, amount: int) -> None:
        """Subtract ``amount`` from the client's share."""
        self.held -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]


class FairSlots:
    """A number of slots for concurrent work. Waiting clients get free slots in rotation.

    So if one client waits for thousands of slots, it gets one in each round, and another client
    does not wait for all of them.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, client: str | None) -> AsyncIterator[None]:
        """Wait for a slot, and hold it during the ``async with`` block."""
        if self._free:
            self._free -= 1
        else:
            await self._turn(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _turn(self, client: str | None) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._pass_on()  # the slot was given to this waiter just before the cancellation
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            while queue and queue[0].done():  # a cancelled waiter does not use up a turn
                queue.popleft()
            if not queue:
                continue
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            turn.set_result(None)
            return
        self._free += 1
