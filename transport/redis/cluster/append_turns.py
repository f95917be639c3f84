"""Turns that keep appends to a slot in order: later ones wait while an earlier one is resent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

__all__ = ["AppendTurn", "AppendTurns"]

Slots = AbstractSet[int | None]


class AppendTurns:
    """The turns of appends, by slot. Nobody waits unless an append is being sent again."""

    def __init__(self) -> None:
        self._held: dict[int | None, asyncio.Future[None]] = {}
        self._queued: Counter[int | None] = Counter()

    @asynccontextmanager
    async def next(self, slots: Slots) -> AsyncIterator[AppendTurn]:
        """Wait for earlier appends that are being sent again; then it is this append's turn.

        Later appends wait for this one only once it calls ``AppendTurn.hold``.
        """
        turn = AppendTurn(self)
        try:
            if self._held:
                await self.wait(slots, turn)
            yield turn
        finally:
            if turn.over is not None:
                turn.over.set_result(None)

    async def wait(self, slots: Slots, turn: AppendTurn) -> None:
        """Wait for appends to these slots that are being sent again, and for earlier waiters.

        A turn that holds up others does not wait: two could otherwise wait for each other.
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
        """Make later appends to these slots wait until ``turn`` is over."""
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
    """The turn of one spread of appends. Later ones wait for it once it is being sent again."""

    def __init__(self, turns: AppendTurns) -> None:
        self.over: asyncio.Future[None] | None = None
        """The future that later appends wait for, if any have to."""
        self._turns = turns

    async def hold(self, slots: Slots) -> None:
        """Before sending again: wait for earlier appends, and make later ones wait for these."""
        await self._turns.wait(slots, self)
        self._turns.hold(slots, self)
