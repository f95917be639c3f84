"""Appends as calls of ``lua/append.lua``: which records go together, and how each is written."""

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
from transport.redis.append.own_appends import OwnAppends
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

# The server does nothing else during a call: at some 5 us a record, this bounds it to a few ms. And
# Lua's stack bounds how many values one command of the call may have.
RECORDS_PER_CALL = 1000
# The same bound, for one record's names and values: Lua's is 8000.
MOST_VALUES = 7000
# What `append` knows by a letter instead of by all its field names.
_SHAPES = {OUR_HEADERS: "", OUR_TRACED_HEADERS: "t"}


class AppendCall(NamedTuple):
    """A command, and what it appends, in order. Calls of one trip touch different partitions."""

    command: Command
    envelopes: Sequence[Envelope]

    @property
    def partition(self) -> int:
        """The partition of all of them, in a cluster."""
        return self.envelopes[0].partition


class AppendCalls:
    """Makes the calls that append to one log.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        group: That works on the records.
        own_appends: Says whether claims of this process want what is appended.
    """

    def __init__(
        self, functions: Functions, log: TopicKeys, *, group: str, own_appends: OwnAppends
    ) -> None:
        self.by_slot = False
        """Whether a call may touch one partition only, as a cluster wants it."""
        self._functions = functions
        self._log = log
        self._group = group
        self._own_appends = own_appends

    def trips(self, envelopes: Sequence[Envelope], seconds: int) -> Iterator[list[AppendCall]]:
        """Yield the calls that append ``envelopes``, trip by trip."""
        for first in range(0, len(envelopes), RECORDS_PER_CALL):
            chunk = envelopes[first : first + RECORDS_PER_CALL]
            try:
                calls = self._calls(chunk, seconds)
            except _TooWideError:
                # Other programs' records, redriven or copied from another log. What no function
                # can take has a command of its own, and is not remembered: the row tells repeats.
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
        """Return the call that appends ``envelopes``; all are of ``partition``, if it is one."""
        streams = self._log.streams
        keys = self.keys(partition, [streams[e.partition] for e in envelopes])
        arguments: list[str | bytes | int] = [seconds, *OUR_FIELDS, self._group, len(envelopes)]
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
        if not self._own_appends.are_wanted:
            return self._functions.command("append", keys, *arguments)
        return self._functions.command("append_after", keys, *arguments, self._functions.database)

    def keys(self, partition: int | None, streams: Sequence[str]) -> list[str]:
        """Return all keys of a call; a call whose slot is being moved must name each."""
        log = self._log
        lease = () if partition is None else (log.lease(partition, self._group),)
        return [*log.memories(partition), *streams, *lease]


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
