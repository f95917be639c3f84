"""Slots that can't be served now, and how long a command waits for them.

After that time, commands for such a slot fail at once until one succeeds. Otherwise a slot whose
move stopped halfway would hold up commands of other slots again and again.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

__all__ = ["SlotUse", "StuckSlots"]


class SlotUse(NamedTuple):
    """The slot of a call, and whether the call names several keys.

    While a slot is being moved, a server may have only one of two keys.
    """

    slot: int | None
    has_several_keys: bool


class StuckSlots:
    """The slots that can't be served, with the time since when."""

    def __init__(self) -> None:
        self._since: dict[SlotUse, float] = {}

    def may_wait(self, use: SlotUse, seconds: float) -> bool:
        """Note that ``use`` can't be served; return whether that is so for under ``seconds``."""
        now = asyncio.get_running_loop().time()
        return now - self._since.setdefault(use, now) < seconds

    def note_served(self, use: SlotUse) -> None:
        """Note that ``use`` was served."""
        if not self._since:
            return
        self._since.pop(use, None)
        if use.has_several_keys:
            self._since.pop(SlotUse(use.slot, False), None)

    def is_settled(self, slot: int | None) -> bool:
        """Return whether commands with several keys of ``slot`` are not known to be stuck."""
        return SlotUse(slot, True) not in self._since
