"""Numbers of things, in words for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, single: str, several: str = "") -> str:
    """Return ``1 row``, ``1,234 rows``. ``several`` is needed where it is not ``single`` and s."""
    return f"{number:,} {single if number == 1 else several or f'{single}s'}"
