"""Durability of a log's acknowledgements, as far as the log itself can be asked."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Durability"]


class Durability(msgspec.Struct, frozen=True):
    """Faults that an acknowledged record survives. ``figures`` are the evidence.

    ``crash``: the server's process is killed. ``power``: every machine of it loses power at once,
    or the one that there is. ``disk``: one machine is lost with its disk. ``None``: not known.
    """

    crash: bool | None
    power: bool | None
    disk: bool | None
    figures: Mapping[str, str]
