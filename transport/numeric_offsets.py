"""Offsets that are decimal numbers, as text."""

from __future__ import annotations

import re

__all__ = ["offset_number", "offset_sort_key"]

_NUMBER = re.compile(r"[0-9]{1,19}")
_LARGEST = 2**63 - 1


def offset_number(offset: str) -> int:
    """Return an offset as a number.

    Raises:
        ValueError: ``offset`` is no number, or one of more than 63 bits.
    """
    if _NUMBER.fullmatch(offset) is None or int(offset) > _LARGEST:
        raise ValueError(f"{offset[:50]!r} is no offset, which is a number such as 120")
    return int(offset)


def offset_sort_key(offset: str) -> bytes:
    """Return a key that orders such offsets; see ``transport.contract.Transport.sort_key``.

    Raises:
        ValueError: ``offset`` is no number, or one of more than 63 bits.
    """
    return offset_number(offset).to_bytes(8, "big")
