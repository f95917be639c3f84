"""Appending: one round trip and one function call for a whole tick, whatever its partitions.

A call for each of sixteen partitions made a quarter of the server's work and half of ours. Only in
a cluster it is a call for each: a partition has a slot of its own, with its side keys, and no call
may touch two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from redis.exceptions import ResponseError

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.envelope import (
    CONTENT_TYPE,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_TRACEPARENT,
)
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.identity import partition_of
from transport.redis.connection import Command, Reply
from transport.redis.errors import is_refusal, translate
from transport.redis.functions import Functions
from transport.redis.keys import TopicKeys
from transport.redis.records import (
    FIELD_BODY,
    FIELD_KEY,
    OUR_FIELDS,
    OUR_HEADERS,
    OUR_TRACED_HEADERS,
)
from transport.redis.witness import Witness

__all__ = ["MOST_VALUES", "RECORDS_PER_CALL", "Publisher", "remembered"]

_FOUND, _REFUSED = ord("="), ord("!")
# The server does nothing else during a call: at some 5 us a record, this bounds it to a few ms. And
# Lua's stack bounds how many values one command of the call may have.
RECORDS_PER_CALL = 1000
# The same bound, for one record's names and values: Lua's is 8000.
MOST_VALUES = 7000
# What `append` knows by a letter instead of by all its field names.
_SHAPES = {OUR_HEADERS: "", OUR_TRACED_HEADERS: "t"}


class Publisher:
    """Appends to one log's partitions, and remembers for ``seconds`` what it appended.

    A repeat is answered from memory only if its record is in the log, or left it after ``group``
    acknowledged it. Of any other record nobody knows that it is a row, so the repeat is appended.
    """

    def __init__(
        self, functions: Functions, log: TopicKeys, *, group: str, seconds: int, witness: Witness
    ) -> None:
        self._functions = functions
        self._witness = witness
        self._log = log
        self._group = group
        self._seconds = seconds
        self._by_slot = False

    def keep_slots_apart(self) -> None:
        """Touch one partition a call from now on, as a cluster wants it."""
        self._by_slot = True

    async def publish(self, envelopes: Sequence[Envelope], *, remember: bool) -> list[Outcome]:
        """Append in order; see :meth:`transport.contract.Transport.publish`."""
        seconds = self._seconds if remember else 0
        outcomes: list[Outcome] = []
        # One after the other: a call that is made again because the library was missing could
        # otherwise change places with the next.
        for first in range(0, len(envelopes), RECORDS_PER_CALL):
            some = envelopes[first : first + RECORDS_PER_CALL]
            try:
                outcomes += await self._append(some, seconds)
            except _TooWideError:
                outcomes += await self._append_around(some, seconds)
            except TransportError as error:
                outcomes += [error] * len(some)
        return outcomes

    async def _append_around(self, envelopes: Sequence[Envelope], seconds: int) -> list[Outcome]:
        """Append envelopes in order, each that no function can take by a command of its own.

        Those are other programs' records, redriven or copied from another log. They are not
        remembered: the row tells repeats apart.
        """
        outcomes: list[Outcome] = []
        for is_wide, group in groupby(envelopes, key=_is_wide):
            some = list(group)
            try:
                if not is_wide:
                    outcomes += await self._append(some, seconds)
                    continue
                for envelope in some:
                    stream = self._log.streams[envelope.partition]
                    reply = await self._functions.exchange(
                        [("XADD", stream, "*", *_fields_of(envelope))]
                    )
                    told = [reply[0]] if isinstance(reply[0], bytes) else reply[0]
                    outcomes += _outcomes(told, 1)
            except TransportError as error:
                # What follows must not overtake it.
                return outcomes + [error] * (len(envelopes) - len(outcomes))
        return outcomes

    async def _append(self, envelopes: Sequence[Envelope], seconds: int) -> Sequence[Outcome]:
        if not self._by_slot:
            command = self._command(envelopes, seconds, self._log.memories())
            (reply,) = await self._functions.exchange([command])
            return self._outcomes(reply, envelopes)
        places: dict[int, list[int]] = {}
        for place, envelope in enumerate(envelopes):
            places.setdefault(envelope.partition, []).append(place)
        replies = await self._functions.exchange(
            [
                self._command([envelopes[i] for i in at], seconds, self._log.memories(partition))
                for partition, at in places.items()
            ]
        )
        outcomes: dict[int, Outcome] = {}
        for at, reply in zip(places.values(), replies, strict=True):
            some = [envelopes[i] for i in at]
            outcomes.update(zip(at, self._outcomes(reply, some), strict=True))
        return [outcomes[place] for place in range(len(envelopes))]

    def _outcomes(self, reply: Reply, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        outcomes = _outcomes(reply, len(envelopes))
        last = outcomes[-1]
        if type(last) is Appended:  # one of a call is enough to tell whether the log goes back
            self._witness.stands(envelopes[-1].partition, last.offset)
        return outcomes

    def _command(
        self, envelopes: Sequence[Envelope], seconds: int, memories: Sequence[str]
    ) -> Command:
        streams = self._log.streams
        keys = [*memories, *[streams[e.partition] for e in envelopes]]
        arguments: list[str | bytes | int] = [seconds, *OUR_FIELDS, self._group]
        arguments += [e.message_id for e in envelopes]
        for e in envelopes:
            headers = e.headers
            correlation = headers.get(HEADER_CORRELATION_ID, "")
            memo = f"{e.accepted_at} {e.fingerprint} {correlation}"
            shape = _SHAPES.get(tuple(headers))
            if (
                shape is not None
                and headers[HEADER_CONTENT_TYPE] == CONTENT_TYPE
                and headers[HEADER_MESSAGE_ID] == e.message_id
            ):
                arguments += (memo, shape, e.key, e.body, correlation)
                if shape:
                    arguments.append(headers[HEADER_TRACEPARENT])
                continue
            if _is_wide(e):
                raise _TooWideError
            fields = _fields_of(e)
            arguments += (memo, len(fields), *fields)
        return self._functions.command("append", keys, *arguments)

    async def recall(self, message_ids: Sequence[str]) -> list[Remembered | None]:
        """Return what is remembered of each message id.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        found: dict[str, Remembered] = {}
        for first in range(0, len(message_ids), RECORDS_PER_CALL):
            places = self._places(message_ids[first : first + RECORDS_PER_CALL])
            replies = await self._functions.exchange(
                [
                    self._functions.command(
                        "recall",
                        [*self._log.memories(memory), *(stream for stream, _ in asked)],
                        self._group,
                        *(identifier for _, identifier in asked),
                    )
                    for memory, asked in places.items()
                ]
            )
            for asked, reply in zip(places.values(), replies, strict=True):
                if isinstance(reply, Exception):
                    raise translate(reply)
                for (_, identifier), value in zip(asked, reply, strict=True):
                    if value is not None:
                        found[identifier] = remembered(value)
        return [found.get(identifier) for identifier in message_ids]

    def _places(self, message_ids: Sequence[str]) -> dict[int | None, list[tuple[str, str]]]:
        """Return streams and ids by the partition whose memories hold them, ``None``: the log's."""
        streams = self._log.streams
        places: dict[int | None, list[tuple[str, str]]] = {}
        for identifier in message_ids:
            # A receipt's id begins with its message's.
            partition = partition_of(identifier.partition("/")[0], len(streams))
            memory = partition if self._by_slot else None
            places.setdefault(memory, []).append((streams[partition], identifier))
        return places


class _TooWideError(Exception):
    """A record has more fields than a function can pass on."""


def _is_wide(envelope: Envelope) -> bool:
    return 2 * len(envelope.headers) + 4 > MOST_VALUES


def _fields_of(envelope: Envelope) -> list[str | bytes | int]:
    fields: list[str | bytes | int] = [FIELD_KEY, envelope.key, FIELD_BODY, envelope.body]
    for header in envelope.headers.items():
        fields += header
    return fields


def remembered(value: bytes) -> Remembered:
    """Return what ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def _outcomes(reply: Reply, count: int) -> Sequence[Outcome]:
    if type(reply) is list:
        return [
            _refusal(item)
            if item[0] == _REFUSED
            else remembered(item[1:])
            if item[0] == _FOUND
            else Appended(item.decode())
            for item in reply
        ]
    if isinstance(reply, TransportError) or is_refusal(reply):
        return [translate(reply)] * count  # refused before it began
    unknown = AppendUnknown(f"the append was sent and no answer came ({reply})")
    unknown.__cause__ = reply
    return [unknown] * count


def _refusal(item: bytes) -> TransportError:
    error = translate(ResponseError(item[1:].decode("utf-8", "replace")))
    return error if isinstance(error, TransportUnavailable) else TransportUnavailable(str(error))
