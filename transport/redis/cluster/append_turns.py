"""Keep appends to a slot in order while one of them is being sent again: later ones wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

__all__ = ["AppendTurn", "AppendTurns"]

Slots = AbstractSet[int | None]


class AppendTurns:
    """Whose turn it is, by slot; where nothing is sent again, it is everybody's."""

    def __init__(self) -> None:
        self._held: dict[int | None, asyncio.Future[None]] = {}
        self._queued: Counter[int | None] = Counter()

    @asynccontextmanager
    async def next(self, slots: Slots) -> AsyncIterator[AppendTurn]:
        """Wait for those before; have others wait, from when ``AppendTurn.hold`` is called."""
        turn = AppendTurn(self)
        try:
            if self._held:
                await self.wait(slots, turn)
            yield turn
        finally:
            if turn.over is not None:
                turn.over.set_result(None)

    async def wait(self, slots: Slots, turn: AppendTurn) -> None:
        """Wait for appends to these slots that are being sent again, and for who waited before.

        Who holds others up waits for nobody, or two could wait for each other.
        """
        if turn.over is not None or not any(slot in self._held for slot in slots):
            return
        self._queued.update(slots)
        try:
            while waited := {it for slot in slots if (it := self._held.get(slot)) is not None}:
                await asyncio.wait(waited)
        finally:
            self._queued.subtract(slots)
        self.hold({slot for slot in slots if self._queued[slot]}, turn)

    def hold(self, slots: Slots, turn: AppendTurn) -> None:
        """Have later appends to these slots wait until ``turn`` is over."""
        if not slots:
            return
        if turn.over is None:
            turn.over = asyncio.get_running_loop().create_future()
            turn.over.add_done_callback(self._let_go)
        for slot in slots:
            self._held[slot] = turn.over

    def _let_go(self, ended: asyncio.Future[None]) -> None:
        self._held = {slot: it for slot, it in self._held.items() if it is not ended}


class AppendTurn:
    """One spread of appends, which holds up later ones once it is sent again."""

    def __init__(self, turns: AppendTurns) -> None:
        self.over: asyncio.Future[None] | None = None
        """The future that others wait for, if any have to."""
        self._turns = turns

    async def hold(self, slots: Slots) -> None:
        """Wait for others once more, and have later appends wait, as these are sent again."""
        await self._turns.wait(slots, self)
        self._turns.hold(slots, self)
