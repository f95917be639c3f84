"""Ages, as options take them: ``90s``, ``15m``, ``2h`` or ``3d``."""

from __future__ import annotations

import re

__all__ = ["age_seconds"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def age_seconds(text: str) -> int | None:
    """Return an age in seconds; ``None`` if the text is no age."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    return int(match[1]) * _UNITS[match[2]] if match else None
