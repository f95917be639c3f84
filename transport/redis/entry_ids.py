"""Entry ids: ``ms-sequence``, two unsigned 64-bit numbers as text, and checks of them."""

from __future__ import annotations

import re

__all__ = ["entry_id", "id_before", "id_key"]

_LARGEST = 2**64 - 1
_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


def entry_id(text: str) -> str:
    """Return ``text`` as Redis writes it; a missing sequence is 0.

    Raises:
        ValueError: ``text`` is no entry id.
    """
    return _spelled(*_parts(text))


def id_before(text: str) -> str | None:
    """Return the id right before the one in ``text``; ``None`` before the first.

    Raises:
        ValueError: ``text`` is no entry id.
    """
    ms, sequence = _parts(text)
    if sequence:
        return _spelled(ms, sequence - 1)
    return _spelled(ms - 1, _LARGEST) if ms else None


def id_key(text: str) -> bytes:
    """Return a key that orders ids; see ``transport.contract.Transport.sort_key``.

    Raises:
        ValueError: ``text`` is no entry id.
    """
    ms, sequence = _parts(text)
    return (ms << 64 | sequence).to_bytes(16, "big")


def _parts(text: str) -> tuple[int, int]:
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:50]!r} is no entry id, such as 1795658271335-0")
    ms, sequence = map(int, match.groups("0"))
    if ms > _LARGEST or sequence > _LARGEST:
        raise ValueError(f"{text[:50]!r} is no entry id: its numbers have at most 64 bits")
    return ms, sequence


def _spelled(ms: int, sequence: int) -> str:
    return f"{ms}-{sequence}"
