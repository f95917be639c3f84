"""Numbers of things, in words for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, single: str, several: str = "") -> str:
    """Return ``1 row``, ``1,234 rows``, ``2 hashes``. ``several`` is for other plurals."""
    several = several or f"{single}{'es' if single.endswith('sh') else 's'}"
    return f"{number:,} {single if number == 1 else several}"
