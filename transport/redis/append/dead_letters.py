"""Appending dead letters: bytes intact, durable, and once however often the call is repeated.

A letter that Redis can't take whole, because its settings changed since it took the record, is
*cut*: it keeps what fits, and says in the header ``HEADER_CUT`` and in
its error what the record was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec
from redis.exceptions import RedisError, ResponseError

from transport.contract import DLQ_GROUP, DeadLetter
from transport.errors import TransportUnavailable
from transport.message.dead_letters import HEADER_CUT, dead_letter_headers, source_of
from transport.redis.append.calls import MOST_VALUES, RECORDS_PER_CALL
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys
from transport.redis.records import FIELD_BODY, FIELD_KEY, OUR_FIELDS, Verbatim

__all__ = ["RedisDeadLetters"]

_log = logging.getLogger(__name__)

Fields = list[str | bytes | int]

_CALL_BYTES = 8 << 20
_LEAST_BYTES = 64 << 10
"""No limit of Redis's is smaller than this: 1 MiB is the least that proto-max-bulk-len can be."""


class RedisDeadLetters:
    """Appends to the dead-letter log.

    A letter whose reply was lost is sent again by the worker: for ``seconds`` the log remembers
    where each came from, and appends the second no more.
    """

    def __init__(self, functions: Functions, log: TopicKeys, *, seconds: int) -> None:
        self._functions = functions
        self._stream = log.streams[0]
        self._memories = log.memories()
        self._lease = log.lease(0, DLQ_GROUP)
        self._seconds = seconds

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Append in order; see ``transport.contract.Transport.dead_letter``."""
        for some in _calls([(letter, _fields(letter)) for letter in letters]):
            await self._append(some)

    async def _append(self, letters: Sequence[tuple[DeadLetter, Fields]]) -> None:
        try:
            await self._call(letters)
        except TransportUnavailable as error:
            if not await self._is_too_large(error, [p for _, fields in letters for p in fields]):
                raise
            if len(letters) > 1:  # some of them may be in: each is remembered
                for item in letters:
                    await self._append([item])
                return
            letter, fields = letters[0]
            await self._cut(letter, fields, error)

    async def _cut(self, letter: DeadLetter, fields: Fields, error: TransportUnavailable) -> None:
        """Append what fits of a letter that Redis does not take whole."""
        most = _size(fields)
        while most > _LEAST_BYTES:
            most = most // 4
            try:
                await self._call([(letter, cut(letter, fields, most=most))])
            except TransportUnavailable as again:
                if not await self._is_too_large(again, fields):
                    raise
                error = again
            else:
                _log.warning(
                    "The dead letter of %s was cut to %d bytes, as Redis takes no more: raise "
                    "proto-max-bulk-len (%s)",
                    source_of(letter),
                    most,
                    error,
                )
                return
        raise error

    async def _is_too_large(self, error: TransportUnavailable, fields: Fields) -> bool:
        """Return whether a letter was refused for its size, and not for the state of the server.

        Redis says so and hangs up; bytes that are on their way then can cost us the answer.
        """
        cause = error.__cause__
        if isinstance(cause, ResponseError):
            text = str(cause)
            return "bulk length" in text or "too large to be stored" in text
        if not isinstance(cause, RedisError) or _largest(fields) <= _LEAST_BYTES:
            return False
        # One transaction, since in a cluster only what has a key goes to its server.
        asked = ("CONFIG", "GET", "proto-max-bulk-len")
        *_, told = await self._functions.exchange(
            [("MULTI",), ("EXISTS", self._stream), asked, ("EXEC",)]
        )
        if not isinstance(told, list) or not isinstance(told[1], list) or len(told[1]) != 2:  # noqa: PLR2004
            return False  # it is forbidden, or the server is away
        return _largest(fields) > int(told[1][1])

    async def _call(self, letters: Sequence[tuple[DeadLetter, Fields]]) -> None:
        if len(letters[0][1]) > MOST_VALUES:  # then it is alone; the table tells repeats apart
            (reply,) = await self._functions.exchange([self._plain(letters[0][1])])
            if isinstance(reply, Exception):
                raise translate(reply)
            return
        keys = [*self._memories, *[self._stream] * len(letters), self._lease]
        arguments: Fields = [self._seconds, *OUR_FIELDS, DLQ_GROUP, len(letters)]
        arguments += [source_of(letter) for letter, _ in letters]
        for letter, fields in letters:
            arguments += (f"{letter.failed_at}  ", len(fields), *fields)
        for item in await self._functions.call("set_aside", keys, *arguments):
            if item.startswith(b"!"):
                cause = ResponseError(item[1:].decode("utf-8", "replace"))
                raise TransportUnavailable(f"a dead letter was refused: {cause}") from cause

    def _plain(self, fields: Fields) -> Command:
        return ("XADD", self._stream, "*", *fields)


def _calls(
    letters: Sequence[tuple[DeadLetter, Fields]],
) -> Iterator[Sequence[tuple[DeadLetter, Fields]]]:
    """Split letters into calls: of bounded size, and one for each that no function can take."""
    some: list[tuple[DeadLetter, Fields]] = []
    size = 0
    for letter in letters:
        own = _size(letter[1])
        wide = len(letter[1]) > MOST_VALUES
        if some and (wide or size + own > _CALL_BYTES or len(some) == RECORDS_PER_CALL):
            yield some
            some, size = [], 0
        some.append(letter)
        size += own
        if wide:
            yield some
            some, size = [], 0
    if some:
        yield some


def _fields(letter: DeadLetter) -> Fields:
    record = letter.record
    added = dead_letter_headers(letter)
    if isinstance(record.headers, Verbatim):
        fields: Fields = list(record.headers.fields)
        # What we add comes last, and so counts, also where the record has a field of that name.
        added = {n: v for n, v in added.items() if record.headers.get(n) != v}
    else:
        fields = [FIELD_KEY, _bytes(record.key), FIELD_BODY, record.body]
    for name, value in added.items():
        fields += (_bytes(name), value)
    return fields


def cut(letter: DeadLetter, fields: Fields, *, most: int) -> Fields:
    """Return the fields of a letter of some ``most`` bytes, a quarter of them for the headers."""
    record = letter.record
    size = _size(fields)
    error = (
        f"{letter.error[:1000]} (cut: Redis does not take {size} bytes in {len(fields) // 2} "
        f"fields any more; the whole record is at {source_of(letter)})"
    )
    bare = msgspec.structs.replace(record, headers={})
    headers = dead_letter_headers(msgspec.structs.replace(letter, record=bare, error=error))
    headers[HEADER_CUT] = msgspec.json.encode(
        {
            "keyBytes": len(_bytes(record.key)),
            "valueBytes": len(record.body),
            "valueSha256": sha256(record.body).hexdigest(),
            "headers": len(record.headers),
        }
    )
    key = _bytes(record.key)[: most // 4]
    kept: Fields = [FIELD_KEY, key, FIELD_BODY, record.body[: most // 2]]
    left = most // 4
    for name, value in record.headers.items():
        left -= len(name) + len(value)
        if left < 0 or len(kept) >= MOST_VALUES // 2:
            break
        kept += (_bytes(name), value)
    for name, value in headers.items():
        kept += (name, value)
    return kept


def _largest(fields: Fields) -> int:
    return max(len(part) for part in fields if not isinstance(part, int))


def _size(fields: Fields) -> int:
    return sum(len(part) for part in fields if not isinstance(part, int))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as it was before it became text
