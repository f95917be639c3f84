"""Room and turns that all clients share, and that none of them takes whole.

A client is known by its API key. Requests without one can't be told apart, and count as one client
that may take all.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairRoom", "FairSlots"]


class FairRoom:
    """Room for ``size``, of which a client may hold as much as it leaves free.

    So one client gets half, two get a third each, and there is always some for one more. Nothing
    has to be taken back from those who came first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._by_client = Counter[str | None]()
        self.held = 0
        """The room that all clients hold."""

    def has_some_for(self, client: str | None) -> bool:
        """Return whether the client may take more."""
        free = self._size - self.held
        return free > 0 if client is None else free > self._by_client[client]

    def take(self, client: str | None, amount: int) -> None:
        """Add to what the client holds."""
        self.held += amount
        self._by_client[client] += amount

    def give_back(self, client: str | None, amount: int) -> None:
        """Take from what the client holds."""
        self.held -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]


class FairSlots:
    """Slots for work. Those who wait for one get it by rotation over the clients.

    So a client that waits for thousands delays another by one for each slot, not by all of them.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, client: str | None) -> AsyncIterator[None]:
        """Wait for a slot, and hold it for the time of the block."""
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
                self._pass_on()  # it was this one's turn, just then
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            while queue and queue[0].done():  # who gave up costs the client no turn
                queue.popleft()
            if not queue:
                continue
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            turn.set_result(None)
            return
        self._free += 1
