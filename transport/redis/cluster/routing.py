"""Routing: the slot that a command belongs to, and the commands that must stay together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from redis.crc import key_slot

from transport.redis.connection.connection import Command

__all__ = ["has_several_keys", "parts", "slot_of_key"]

_WITH_COUNT = ("FCALL", "EVALSHA")
_IN_SECOND_PLACE = ("XINFO", "MEMORY")
_WITHOUT = frozenset(
    ("MULTI", "EXEC", "WAIT", "INFO", "TIME", "CONFIG", "CLIENT", "SCRIPT", "FUNCTION", "SCAN")
)


@lru_cache(maxsize=4096)
def slot_of_key(key: str) -> int:
    """Return the cluster slot of a key."""
    return key_slot(key.encode("utf-8", "surrogateescape"))


def parts(commands: Sequence[Command]) -> Iterator[tuple[int | None, slice]]:
    """Yield the parts of ``commands`` that must go to one server: the slot, and which commands.

    A transaction is one part. Each other command is a part of its own. The slot of a part without
    keys is ``None``: any server can execute it.
    """
    first, slot = 0, None
    is_open = False
    for i, command in enumerate(commands):
        if slot is None and (key := _key(command)) is not None:
            slot = slot_of_key(key)
        is_open = command[0] == "MULTI" or (is_open and command[0] != "EXEC")
        if not is_open:
            yield slot, slice(first, i + 1)
            first, slot = i + 1, None


def has_several_keys(commands: Sequence[Command]) -> bool:
    """Return whether any of ``commands`` names several keys.

    While a slot is being moved, a server may have only some of its keys, and refuse such a command.
    """
    return any(it[0] in _WITH_COUNT and int(it[2]) > 1 for it in commands)


def _key(command: Command) -> str | None:
    name = command[0]
    if name in _WITHOUT:
        return None
    if name in _WITH_COUNT:
        return str(command[3]) if command[2] else None
    if name == "XREADGROUP":
        return str(command[command.index("STREAMS") + 1])
    return str(command[2 if name in _IN_SECOND_PLACE else 1])
