"""Appends of dead letters: with intact bytes, and once even if the call is repeated.

Redis may refuse a letter for its size, if its limits were lowered since it took the record. Such a
letter is *cut*: it keeps as much as fits, and describes the whole record in the header
``HEADER_CUT`` and in its error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError, ResponseError

from transport.contract import DLQ_GROUP, DeadLetter
from transport.errors import TransportUnavailable
from transport.message.dead_letters import HEADER_CUT, dead_letter_headers, source_of
from transport.redis.append.calls import MOST_VALUES, RECORDS_PER_CALL
from transport.redis.append.confirmation import Confirmation
from transport.redis.append.outcomes import remembered
from transport.redis.append.recent_letters import RecentLetters
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply, ServerChanged, ServerIdentity
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys
from transport.redis.records import FIELD_BODY, FIELD_KEY, OUR_FIELDS, Verbatim

__all__ = ["RedisDeadLetters"]

_log = logging.getLogger(__name__)

Fields = list[str | bytes | int]

_CALL_BYTES = 8 << 20
_GONE = ord("1")
_LEAST_BYTES = 64 << 10
"""No letter is cut below this size: proto-max-bulk-len can't be set below 1 MiB."""


class _Target(NamedTuple):
    """The server to append to, and whether replicas have to confirm it."""

    server: str
    """The replication id of the only server; empty if it is unknown."""
    is_confirmed: bool


class RedisDeadLetters:
    """Appends to the dead-letter log.

    The worker sends a letter again if the reply was lost. The log remembers the source of each
    letter for ``seconds``, and does not append a repeat.

    ``confirmation`` says whether replicas have to confirm a letter. Its record may be acknowledged
    on another server: on another shard, or on a replica that is promoted in between. Letters of the
    last ``rescue_seconds`` are appended again to a server that may lack them. Replicas need not
    confirm these: right after a failover there may be none.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        seconds: int,
        rescue_seconds: float,
        confirmation: Confirmation,
    ) -> None:
        self.recent = RecentLetters(self._append_again, seconds=rescue_seconds)
        self._functions = functions
        self._confirmation = confirmation
        self._stream = log.streams[0]
        self._memories = log.memories()
        self._figures = log.figures(0, DLQ_GROUP)
        self._seconds = seconds

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Append in order; see ``transport.contract.Transport.dead_letter``."""
        items: list[bytes] = []
        while len(items) < len(letters):
            # An old connection may lead to a former primary, whose letters nobody reads any more.
            server = self.recent.server
            with suppress(ServerChanged):
                items = await self._append_all(letters, _Target(server, is_confirmed=True))
                self.recent.add(letters, [_offset_of(item) for item in items], server)

    async def _append_again(
        self, letters: Sequence[DeadLetter], offsets: Sequence[str], server: str
    ) -> tuple[Sequence[str], int]:
        """Append the letters that a server lacks; see ``AppendAt``."""
        at, now_at = _Target(server, is_confirmed=False), list(offsets)
        gone = await self._gone(offsets, at)
        items = await self._append_all([letters[i] for i in gone], at)
        for i, item in zip(gone, items, strict=True):
            now_at[i] = _offset_of(item)
        # By offsets: after a lost reply, the second attempt is answered as a repeat.
        return now_at, sum(new != old for new, old in zip(now_at, offsets, strict=True))

    async def _gone(self, offsets: Sequence[str], at: _Target) -> list[int]:
        """Return which letters are not in the log.

        Its memory is not enough: after a long outage it has forgotten letters that are there.
        """
        flags = b""
        for first in range(0, len(offsets), RECORDS_PER_CALL):
            some = offsets[first : first + RECORDS_PER_CALL]
            command = self._functions.command("tell_gone", self._figures, *some)
            flags += await self._confirmed(command, at)
        return [i for i, flag in enumerate(flags) if flag == _GONE]

    async def _append_all(self, letters: Sequence[DeadLetter], at: _Target) -> list[bytes]:
        """Append letters; return the reply to each, which is an offset or that of a repeat."""
        items: list[bytes] = []
        for some in _calls([(letter, _fields(letter)) for letter in letters]):
            items += await self._append(some, at)
        return items

    async def _append(
        self, letters: Sequence[tuple[DeadLetter, Fields]], at: _Target
    ) -> list[bytes]:
        try:
            return await self._call(letters, at)
        except TransportUnavailable as error:
            if not await self._is_too_large(error, [p for _, fields in letters for p in fields]):
                raise
            if len(letters) > 1:  # some may have been appended: those are remembered
                return [item for one in letters for item in await self._append([one], at)]
            letter, fields = letters[0]
            return await self._cut(letter, fields, error, at)

    async def _cut(
        self, letter: DeadLetter, fields: Fields, error: TransportUnavailable, at: _Target
    ) -> list[bytes]:
        """Append as much of a letter as Redis takes."""
        most = _size(fields)
        while most > _LEAST_BYTES:
            most = most // 4
            try:
                items = await self._call([(letter, cut(letter, fields, most=most))], at)
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
                return items
        raise error

    async def _is_too_large(self, error: TransportUnavailable, fields: Fields) -> bool:
        """Return whether a letter was refused for its size, and not for the state of the server.

        Redis answers with an error and hangs up. If bytes are still being sent at that moment, the
        answer can be lost; then the server's limit is asked for.
        """
        cause = error.__cause__
        if isinstance(cause, ResponseError):
            text = str(cause)
            return "bulk length" in text or "too large to be stored" in text
        if not isinstance(cause, RedisError) or _largest(fields) <= _LEAST_BYTES:
            return False
        # A transaction with the key: in a cluster, CONFIG alone would go to any server.
        asked = ("CONFIG", "GET", "proto-max-bulk-len")
        *_, told = await self._functions.exchange(
            [("MULTI",), ("EXISTS", self._stream), asked, ("EXEC",)]
        )
        if not isinstance(told, list) or not isinstance(told[1], list) or len(told[1]) != 2:  # noqa: PLR2004
            return False  # CONFIG is forbidden, or the server is away
        return _largest(fields) > int(told[1][1])

    async def _call(self, letters: Sequence[tuple[DeadLetter, Fields]], at: _Target) -> list[bytes]:
        if len(letters[0][1]) > MOST_VALUES:  # then it is alone; the table recognises repeats
            return [await self._confirmed(self._plain(letters[0][1]), at)]
        keys = [*self._memories, *[self._stream] * len(letters), *self._figures[1:]]
        arguments: Fields = [self._seconds, *OUR_FIELDS, DLQ_GROUP, self._functions.database]
        arguments.append(len(letters))
        arguments += [source_of(letter) for letter, _ in letters]
        for letter, fields in letters:
            arguments += (f"{letter.failed_at}  ", len(fields), *fields)
        call = self._functions.command("set_aside", keys, *arguments)
        items: list[bytes] = (await self._confirmed(call, at))[:-1]
        for item in items:
            if item.startswith(b"!"):
                cause = ResponseError(item[1:].decode("utf-8", "replace"))
                raise TransportUnavailable(f"a dead letter was refused: {cause}") from cause
        return items

    async def _confirmed(self, command: Command, at: _Target) -> Reply:
        """Return the reply to ``command``, once enough replicas have what it wrote."""

        def is_at(identity: ServerIdentity) -> bool:
            self.recent.note_server(identity.server)
            return identity.server in ("", at.server)

        closing = self._confirmation.closing(self._functions) if at.is_confirmed else ()
        if self._functions.are_of_several:
            replies, (closed,) = await self._functions.spread(
                [command],
                closing=(lambda _: closing) if closing else None,
                are_at=[is_at] if at.server else (),
            )
        else:
            replies = await self._functions.exchange([command], closing=closing, only_at=at.server)
            closed = replies[1:]
        if isinstance(replies[0], Exception):
            raise translate(replies[0])
        if at.is_confirmed and (doubt := self._confirmation.doubt(closed)):
            raise TransportUnavailable(str(doubt)) from doubt.__cause__
        return replies[0]

    def _plain(self, fields: Fields) -> Command:
        return ("XADD", self._stream, "*", *fields)


def _offset_of(item: bytes) -> str:
    """Return the offset in the reply to a letter."""
    return remembered(item[1:]).offset if item.startswith(b"=") else item.decode()


def _calls(
    letters: Sequence[tuple[DeadLetter, Fields]],
) -> Iterator[Sequence[tuple[DeadLetter, Fields]]]:
    """Split letters into calls of bounded size; one too wide for a function has its own call."""
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
        # Our headers come last, so that they count even if the record has fields of these names.
        added = {n: v for n, v in added.items() if record.headers.get(n) != v}
    else:
        fields = [FIELD_KEY, _bytes(record.key), FIELD_BODY, record.body]
    for name, value in added.items():
        fields += (_bytes(name), value)
    return fields


def cut(letter: DeadLetter, fields: Fields, *, most: int) -> Fields:
    """Return the fields of a letter cut to about ``most`` bytes.

    The key and the record's headers get up to a quarter each, the body up to half.
    """
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
    return text.encode("utf-8", "surrogateescape")  # the original bytes
