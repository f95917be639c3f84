"""Appending dead letters: bytes intact, durable, and once however often the call is repeated."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import DLQ_GROUP, DeadLetter
from transport.dead_letters import dead_letter_headers, source_of
from transport.errors import TransportUnavailable
from transport.redis.functions import Functions
from transport.redis.keys import Log
from transport.redis.publish import RECORDS_PER_CALL
from transport.redis.records import FIELD_BODY, FIELD_KEY, OUR_FIELDS

__all__ = ["DeadLetters"]


class DeadLetters:
    """Appends to the dead-letter log.

    A letter whose reply was lost is sent again by the worker: for ``seconds`` the log remembers
    where each came from, and appends the second no more.
    """

    def __init__(self, functions: Functions, log: Log, *, seconds: int) -> None:
        self._functions = functions
        self._stream = log.streams[0]
        self._memories = log.memories()
        self._seconds = seconds

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Append in order; see :meth:`transport.contract.Transport.dead_letter`."""
        for first in range(0, len(letters), RECORDS_PER_CALL):
            await self._append(letters[first : first + RECORDS_PER_CALL])

    async def _append(self, letters: Sequence[DeadLetter]) -> None:
        keys = [*self._memories, *[self._stream] * len(letters)]
        arguments: list[str | bytes | int] = [self._seconds, *OUR_FIELDS, DLQ_GROUP]
        arguments += [source_of(letter) for letter in letters]
        for letter in letters:
            fields: list[str | bytes | int] = [
                FIELD_KEY,
                _bytes(letter.record.key),
                FIELD_BODY,
                letter.record.body,
            ]
            for name, value in dead_letter_headers(letter).items():
                fields += (_bytes(name), value)
            arguments += (f"{letter.failed_at}  ", len(fields), *fields)
        for item in await self._functions.call("append", keys, *arguments):
            if item.startswith(b"!"):
                raise TransportUnavailable(
                    f"a dead letter was refused: {item[1:].decode('utf-8', 'replace')}"
                )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as it was before it became text
