"""The durability of a log's acknowledged records, as its server tells it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Durability"]


class Durability(msgspec.Struct, frozen=True):
    """The faults that an acknowledged record survives; ``None`` is unknown.

    ``crash``: the server's process is killed. ``power``: all machines of the server lose power at
    once. ``disk``: one machine is lost with its disk. ``figures`` are the settings that prove it.
    ``cut_off`` says what a server that is cut off from its replicas can lose, with the command that
    prevents it; it is empty if there is nothing to do.
    """

    crash: bool | None
    power: bool | None
    disk: bool | None
    figures: Mapping[str, str]
    cut_off: str = ""
