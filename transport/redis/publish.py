"""Append a whole tick with one round trip and one function call, for all its partitions.

A call for each of sixteen partitions made a quarter of the server's work and half of ours. Only in
a cluster it is a call for each: a partition has a slot of its own, with its side keys, and no call
may touch two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

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
from transport.redis.confirmation import Confirmation
from transport.redis.connection import Command, Reply, ServerChanged
from transport.redis.errors import is_refusal, translate
from transport.redis.functions import Functions
from transport.redis.keys import TopicKeys
from transport.redis.own_appends import OwnAppends, Run
from transport.redis.records import (
    FIELD_BODY,
    FIELD_KEY,
    OUR_FIELDS,
    OUR_HEADERS,
    OUR_TRACED_HEADERS,
)
from transport.redis.rescue import Rescue
from transport.redis.shard_rescues import ShardRescues
from transport.redis.witness import Witness

__all__ = ["MOST_VALUES", "RECORDS_PER_CALL", "Publisher", "remembered"]

# Of a key that is not there any more, in a slot on its way: met in the midst of the call.
_NOT_HERE = "non local key"
_FOUND, _REFUSED = ord("="), ord("!")
# The server does nothing else during a call: at some 5 us a record, this bounds it to a few ms. And
# Lua's stack bounds how many values one command of the call may have.
RECORDS_PER_CALL = 1000
# The same bound, for one record's names and values: Lua's is 8000.
MOST_VALUES = 7000
_CHANGES = 8  # of servers, in a moment, after which a call is refused
# What `append` knows by a letter instead of by all its field names.
_SHAPES = {OUR_HEADERS: "", OUR_TRACED_HEADERS: "t"}


class Publisher:
    """Appends to one log's partitions, and remembers for ``seconds`` what it appended.

    A repeat is answered from memory only if its record is in the log, or left it after ``group``
    acknowledged it. Any other record may not be a row, so the repeat is appended.

    ``own_appends`` gets what was appended, for the claims of this process. ``confirmation`` says
    whether replicas have to have it.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        group: str,
        seconds: int,
        witness: Witness,
        own_appends: OwnAppends,
        confirmation: Confirmation,
        rescue: Rescue,
    ) -> None:
        self._rescue = rescue
        self._confirmation = confirmation
        self._functions = functions
        self._witness = witness
        self._log = log
        self._group = group
        self._seconds = seconds
        self._own_appends = own_appends
        self._by_slot = False
        self._rescues: ShardRescues | None = None

    def keep_slots_apart(self, rescues: ShardRescues | None) -> None:
        """Touch one partition a call from now on, as a cluster wants it.

        ``rescues``: those of its partitions, where they are on several servers.
        """
        self._by_slot, self._rescues = True, rescues

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool, rescued_at: str = ""
    ) -> list[Outcome]:
        """Append in order; see ``transport.contract.Transport.publish``.

        ``rescued_at``: what a failover lost is appended again to the server of that replication id,
        while all else waits. No replica has to confirm what was acknowledged already.
        """
        if self._rescues is not None:
            return await self._publish_by_slot(self._rescues, envelopes, remember, rescued_at)
        outcomes: list[Outcome] = []
        recent = self._rescue.recent
        # One trip after the other: a call that is made again because the library was missing could
        # otherwise change places with the next.
        for calls in self._trips(envelopes, self._seconds if remember else 0):
            self._own_appends.under_way += 1
            try:
                # Here and not in a method: a message passes each frame between it and the socket.
                first, closing, passing = self._around(rescued_at)
                replies: list[Reply] | None = None
                while replies is None:
                    if not rescued_at:
                        await self._rescue.over()
                    begun = self._rescue.begun
                    with suppress(*passing):
                        replies = await self._functions.exchange(
                            [*first, *(call.command for call in calls)],
                            closing=closing,
                            only_at=rescued_at or self._rescue.server,
                        )
                if begun != self._rescue.begun and not rescued_at:
                    replies = [_left_behind()] * len(replies)
                if first:
                    self._rescue.note_writers(replies[0])
                    del replies[: len(first)]
                doubt = None if rescued_at else self._confirmation.doubt(replies[len(calls) :])
                replies = replies[: len(calls)]
                if len(calls) == 1:
                    some = self._outcomes(replies[0], calls[0].envelopes)
                else:
                    rest = envelopes[len(outcomes) :]
                    some = self._outcomes_by_partition(replies, calls, rest)
                some = [_doubted(it, doubt) for it in some] if doubt else some
                recent.add(envelopes[len(outcomes) :][: len(some)], some, remember=remember)
                outcomes += some
            except TransportError as error:
                # What follows must not overtake it.
                return outcomes + [error] * (len(envelopes) - len(outcomes))
            finally:
                self._own_appends.under_way -= 1
        return outcomes

    async def _publish_by_slot(
        self,
        rescues: ShardRescues,
        envelopes: Sequence[Envelope],
        remember: bool,
        rescued_at: str,
    ) -> list[Outcome]:
        """Append in the order of each partition; one that is refused holds up no other's."""
        outcomes: list[Outcome] = []
        refused: dict[int, TransportError] = {}  # what follows must not overtake it
        for calls in self._trips(envelopes, self._seconds if remember else 0):
            self._own_appends.under_way += 1
            try:
                due = [call for call in calls if call.partition not in refused]
                told = await self._tell_by_slot(rescues, due, rescued_at)
                some: dict[int, Iterator[Outcome]] = {}
                for call in calls:
                    reply, closing = told.get(call.partition) or (refused[call.partition], ())
                    found = self._outcomes(reply, call.envelopes)
                    if isinstance(reply, Exception):
                        refused[call.partition] = translate(reply)
                    elif not rescued_at:
                        new, old = self._confirmation.doubts_at(closing)
                        doubts = [new if type(it) is Appended else old for it in found]
                        found = [
                            _doubted(it, doubt) if doubt else it
                            for it, doubt in zip(found, doubts, strict=True)
                        ]
                    recent = rescues.of(call.partition).recent
                    recent.add(call.envelopes, found, remember=remember)
                    some[call.partition] = iter(found)
                count = sum(len(call.envelopes) for call in calls)
                rest = envelopes[len(outcomes) :][:count]
                outcomes += [next(some[envelope.partition]) for envelope in rest]
            except TransportError as error:
                return outcomes + [error] * (len(envelopes) - len(outcomes))
            finally:
                self._own_appends.under_way -= 1
        return outcomes

    async def _tell_by_slot(
        self, rescues: ShardRescues, calls: Sequence[_Call], rescued_at: str
    ) -> dict[int, tuple[Reply, Sequence[Reply]]]:
        """Return the reply to each partition's call, and those to what ended its trip."""
        told: dict[int, tuple[Reply, Sequence[Reply]]] = {}
        if rescued_at:
            replies, _ = await self._functions.spread(
                [call.command for call in calls],
                are_at=[rescues.of(call.partition).at(rescued_at) for call in calls],
            )
            return {call.partition: (it, ()) for call, it in zip(calls, replies, strict=True)}
        for _ in range(_CHANGES):
            refusals = await rescues.over([call.partition for call in calls])
            begun = {call.partition: rescues.of(call.partition).begun for call in calls}
            told |= {partition: (error, ()) for partition, error in refusals.items()}
            due = {call.partition: call for call in calls if call.partition not in refusals}
            first = [(p, command) for p in due for command in rescues.of(p).registration()]
            replies, closed = await self._functions.spread(
                [*(command for _, command in first), *(call.command for call in due.values())],
                closing=self._confirmation.commands_at,
                are_at=[rescues.of(p).is_at for p in (*(p for p, _ in first), *due)],
            )
            for (partition, _), reply in zip(first, replies, strict=False):
                rescues.of(partition).note_writers(reply)
            pairs = list(zip(replies, closed, strict=True))[len(first) :]
            told |= dict(zip(due, pairs, strict=True))
            for partition in due:
                reply, _ = told[partition]
                left = begun[partition] != rescues.of(partition).begun
                if left and not isinstance(reply, Exception):
                    told[partition] = _left_behind(), ()
            calls = [call for p, call in due.items() if type(told[p][0]) is ServerChanged]
            if not calls:
                break
        return told

    def _around(
        self, rescued_at: str
    ) -> tuple[Sequence[Command], Sequence[Command], tuple[type[ServerChanged], ...]]:
        """Return what goes before and after a trip of appends, and the errors to try again after.

        What is rescued belongs to one server, and its rescue begins anew where that changed.
        """
        if rescued_at:
            return (), (), ()
        return self._rescue.registration(), self._confirmation.commands, (ServerChanged,)

    async def _exchange(
        self, commands: Sequence[Command], memories: Sequence[int | None]
    ) -> list[Reply]:
        """Exchange with a server that is known to have all that was appended.

        ``memories``: the partition whose memories each command is for.
        """
        if (rescues := self._rescues) is not None:
            partitions = [it for it in memories if it is not None]
            for error in (await rescues.over(partitions)).values():
                raise error
            are_at = [rescues.of(partition).is_at for partition in partitions]
            replies, _ = await self._functions.spread(commands, are_at=are_at)
            return replies
        while True:
            await self._rescue.over()
            with suppress(ServerChanged):
                return await self._functions.exchange(commands, only_at=self._rescue.server)

    def _trips(self, envelopes: Sequence[Envelope], seconds: int) -> Iterator[list[_Call]]:
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

    def _calls(self, envelopes: Sequence[Envelope], seconds: int) -> list[_Call]:
        if not self._by_slot:
            command = self._command(envelopes, seconds, None)
            return [_Call(command, envelopes)]
        by_partition: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            by_partition.setdefault(envelope.partition, []).append(envelope)
        return [
            _Call(self._command(some, seconds, partition), some)
            for partition, some in by_partition.items()
        ]

    def _lone_call(self, envelope: Envelope) -> _Call:
        stream = self._log.streams[envelope.partition]
        return _Call(("XADD", stream, "*", *_fields_of(envelope)), [envelope])

    def _outcomes(self, reply: Reply, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        items = [reply] if type(reply) is bytes else reply
        runs: dict[int, Run] = {}
        if type(items) is list:
            items = _told_apart(items, envelopes, runs)
        outcomes = _outcomes(items, len(envelopes))
        for partition, run in runs.items():
            self._own_appends.appended(partition, run)
        last = outcomes[-1]
        if type(last) is Appended:  # one of a call is enough to tell whether the log goes back
            self._witness.stands(envelopes[-1].partition, last.offset)
        return outcomes

    def _outcomes_by_partition(
        self, replies: Sequence[Reply], calls: Sequence[_Call], envelopes: Sequence[Envelope]
    ) -> list[Outcome]:
        """Return the outcomes of one trip in the order of ``envelopes``, which begin with it."""
        outcomes = {
            call.partition: iter(self._outcomes(reply, call.envelopes))
            for call, reply in zip(calls, replies, strict=True)
        }
        count = sum(len(call.envelopes) for call in calls)
        return [next(outcomes[envelope.partition]) for envelope in envelopes[:count]]

    def _command(
        self, envelopes: Sequence[Envelope], seconds: int, partition: int | None
    ) -> Command:
        """Return the call that appends ``envelopes``; all are of ``partition``, if it is one."""
        streams = self._log.streams
        keys = self._keys(partition, [streams[e.partition] for e in envelopes])
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
        name = "append_after" if self._own_appends.are_wanted else "append"
        return self._functions.command(name, keys, *arguments)

    def _keys(self, partition: int | None, streams: Sequence[str]) -> list[str]:
        """Return what a call touches; where its slot may be on its way, nothing is left out."""
        log = self._log
        lease = () if partition is None else (log.lease(partition, self._group),)
        return [*log.memories(partition), *streams, *lease]

    async def recall(self, message_ids: Sequence[str]) -> list[Remembered | None]:
        """Look up what was appended under each message id, within the idempotency window.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        found: dict[str, Remembered] = {}
        for first in range(0, len(message_ids), RECORDS_PER_CALL):
            places = self._places(message_ids[first : first + RECORDS_PER_CALL])
            replies = await self._exchange(
                [
                    self._functions.command(
                        "recall",
                        self._keys(memory, [stream for stream, _ in questions]),
                        self._group,
                        *(identifier for _, identifier in questions),
                    )
                    for memory, questions in places.items()
                ],
                list(places),
            )
            for questions, reply in zip(places.values(), replies, strict=True):
                if isinstance(reply, Exception):
                    raise translate(reply)
                for (_, identifier), value in zip(questions, reply, strict=True):
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


class _Call(NamedTuple):
    """A command, and what it appends, in order. Calls of one trip touch different partitions."""

    command: Command
    envelopes: Sequence[Envelope]

    @property
    def partition(self) -> int:
        """The partition of all of them, in a cluster."""
        return self.envelopes[0].partition


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


def remembered(value: bytes) -> Remembered:
    """Parse the value that ``append`` wrote under a message id."""
    offset, accepted_at, fingerprint, correlation_id = value.decode().split(" ", 3)
    return Remembered(offset, accepted_at, fingerprint, correlation_id)


def _told_apart(
    items: Sequence[bytes], envelopes: Sequence[Envelope], runs: dict[int, Run]
) -> list[bytes]:
    """Return the ids without those of the records before; note what stands next to each other."""
    bare = list(items)
    for index, item in enumerate(items):
        if item[0] == _FOUND or item[0] == _REFUSED:
            continue
        before, told, offset = item.rpartition(b"<")
        envelope = envelopes[index]
        if told:
            bare[index] = offset
            runs[envelope.partition] = Run(before.decode(), [envelope], [offset.decode()])
        elif run := runs.get(envelope.partition):
            run.envelopes.append(envelope)
            run.offsets.append(item.decode())
    return bare


def _left_behind() -> AppendUnknown:
    """Return what is known of a record whose server was replaced before it answered.

    A primary that hung may take it after the rescue, in which nobody could report it.
    """
    return AppendUnknown("Redis failed over while the append was under way: retry")


def _doubted(outcome: Outcome, doubt: AppendUnknown) -> Outcome:
    """Return what is known of a record that too few replicas have."""
    return outcome if isinstance(outcome, TransportError) else doubt


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
    if isinstance(reply, TransportError) or (is_refusal(reply) and _NOT_HERE not in str(reply)):
        return [translate(reply)] * count  # refused before it began
    unknown = AppendUnknown(f"the append was sent and no answer came ({reply})")
    unknown.__cause__ = reply
    return [unknown] * count


def _refusal(item: bytes) -> TransportError:
    error = translate(ResponseError(item[1:].decode("utf-8", "replace")))
    return error if isinstance(error, TransportUnavailable) else TransportUnavailable(str(error))
