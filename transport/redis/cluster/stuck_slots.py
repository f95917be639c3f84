"""How long a command waits for a slot that can't be served now.

After that it fails at once, until one of its kind succeeds: a slot whose move has stopped halfway
must not hold up all others for as long, again and again.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

__all__ = ["SlotUse", "StuckSlots"]


class SlotUse(NamedTuple):
    """The slot of a call. Of a slot that is being moved, a server may have one key of two."""

    slot: int | None
    has_several_keys: bool


class StuckSlots:
    """The slots that can't be served, and since when."""

    def __init__(self) -> None:
        self._since: dict[SlotUse, float] = {}

    def may_wait(self, use: SlotUse, seconds: float) -> bool:
        """Note that ``use`` is not served; return whether that is so for less than ``seconds``."""
        now = asyncio.get_running_loop().time()
        return now - self._since.setdefault(use, now) < seconds

    def note_served(self, use: SlotUse) -> None:
        """Note that ``use`` is served."""
        if not self._since:
            return
        self._since.pop(use, None)
        if use.has_several_keys:
            self._since.pop(SlotUse(use.slot, False), None)

    def is_settled(self, slot: int | None) -> bool:
        """Return whether nothing is known to hold up commands of several keys of ``slot``."""
        return SlotUse(slot, True) not in self._since
