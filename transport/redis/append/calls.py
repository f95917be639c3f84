"""The calls of ``lua/append.lua``: which records share a call, and how each is encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from transport.contract import Envelope
from transport.message.envelope import (
    CONTENT_TYPE,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_TRACEPARENT,
)
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command
from transport.redis.keys import TopicKeys
from transport.redis.records import (
    FIELD_BODY,
    FIELD_KEY,
    OUR_FIELDS,
    OUR_HEADERS,
    OUR_TRACED_HEADERS,
)

__all__ = ["MOST_VALUES", "RECORDS_PER_CALL", "AppendCall", "AppendCalls"]

# The server does nothing else during a call. At some 5 us a record, this bounds a call to a few ms.
# Lua's stack also bounds how many values one command of the call may have.
RECORDS_PER_CALL = 1000
# The most names and values of one record; Lua's own limit is 8000.
MOST_VALUES = 7000
# The shapes that `append` knows by a short text, so that a record need not carry its field names.
_SHAPES = {OUR_HEADERS: "", OUR_TRACED_HEADERS: "t"}


class AppendCall(NamedTuple):
    """A command, and the envelopes that it appends, in order.

    If a trip has several calls, each is for another partition.
    """

    command: Command
    envelopes: Sequence[Envelope]

    @property
    def partition(self) -> int:
        """The partition of all envelopes; only in a cluster."""
        return self.envelopes[0].partition


class AppendCalls:
    """Makes the calls that append to one log.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        group: The group whose published position tells which records are settled.
    """

    def __init__(self, functions: Functions, log: TopicKeys, *, group: str) -> None:
        self.by_slot = False
        """Whether a call may touch only one partition, as a cluster requires."""
        self._functions = functions
        self._log = log
        self._group = group

    def trips(self, envelopes: Sequence[Envelope], seconds: int) -> Iterator[list[AppendCall]]:
        """Yield the calls that append ``envelopes``, one list for each trip.

        ``seconds``: how long to remember the message ids; 0: not at all.
        """
        for first in range(0, len(envelopes), RECORDS_PER_CALL):
            chunk = envelopes[first : first + RECORDS_PER_CALL]
            try:
                calls = self._calls(chunk, seconds)
            except _TooWideError:
                # Other programs' records, redriven or copied from another log. A record that is too
                # wide for a function gets an XADD of its own. It is not remembered; PostgreSQL's
                # row recognises a repeat.
                for is_wide, group in groupby(chunk, key=_is_wide):
                    if is_wide:
                        yield from ([self._lone_call(envelope)] for envelope in group)
                    else:
                        yield self._calls(list(group), seconds)
            else:
                yield calls

    def _calls(self, envelopes: Sequence[Envelope], seconds: int) -> list[AppendCall]:
        if not self.by_slot:
            command = self._command(envelopes, seconds, None)
            return [AppendCall(command, envelopes)]
        by_partition: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            by_partition.setdefault(envelope.partition, []).append(envelope)
        return [
            AppendCall(self._command(some, seconds, partition), some)
            for partition, some in by_partition.items()
        ]

    def _lone_call(self, envelope: Envelope) -> AppendCall:
        stream = self._log.streams[envelope.partition]
        return AppendCall(("XADD", stream, "*", *_fields_of(envelope)), [envelope])

    def _command(
        self, envelopes: Sequence[Envelope], seconds: int, partition: int | None
    ) -> Command:
        """Return the call that appends ``envelopes``.

        ``partition``: the partition of all envelopes, in a cluster; else ``None``.
        """
        streams = self._log.streams
        keys = self.keys(partition, [streams[e.partition] for e in envelopes])
        database = self._functions.database
        arguments: list[str | bytes | int] = [seconds, *OUR_FIELDS, self._group, database]
        arguments.append(len(envelopes))
        arguments += [e.message_id for e in envelopes]
        for e in envelopes:
            headers = e.headers
            correlation = headers.get(HEADER_CORRELATION_ID, "")
            memo = f"{e.accepted_at} {e.fingerprint} {correlation}"
            names = tuple(headers)
            shape = _SHAPES.get(names)
            if (
                (shape is not None or names[: len(OUR_HEADERS)] == OUR_HEADERS)
                and headers[HEADER_CONTENT_TYPE] == CONTENT_TYPE
                and headers[HEADER_MESSAGE_ID] == e.message_id
            ):
                if shape is None:
                    if _is_wide(e):
                        raise _TooWideError
                    more = _values(headers, names[len(OUR_HEADERS) :])
                    arguments += (memo, f"+{len(more)}", e.key, e.body, correlation, *more)
                    continue
                arguments += (memo, shape, e.key, e.body, correlation)
                if shape:
                    arguments.append(headers[HEADER_TRACEPARENT])
                continue
            if _is_wide(e):
                raise _TooWideError
            fields = _fields_of(e)
            arguments += (memo, len(fields), *fields)
        return self._functions.command("append", keys, *arguments)

    def keys(self, partition: int | None, streams: Sequence[str]) -> list[str]:
        """Return all keys of a call: while a slot is being moved, a call must name every key."""
        log = self._log
        figures = () if partition is None else log.figures(partition, self._group)[1:]
        return [*log.memories(partition), *streams, *figures]


class _TooWideError(Exception):
    """A record has more fields than a function can pass on."""


def _is_wide(envelope: Envelope) -> bool:
    return 2 * len(envelope.headers) + 4 > MOST_VALUES


def _values(headers: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return some of the headers, each name before its value."""
    values: list[str] = []
    for name in names:
        values += (name, headers[name])
    return values


def _fields_of(envelope: Envelope) -> list[str | bytes | int]:
    fields: list[str | bytes | int] = [FIELD_KEY, envelope.key, FIELD_BODY, envelope.body]
    for header in envelope.headers.items():
        fields += header
    return fields
