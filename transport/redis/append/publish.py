"""Append a whole tick with one round trip and one function call, for all its partitions.

A call for each of sixteen partitions made a quarter of the server's work and half of ours. Only in
a cluster it is a call for each: a partition has a slot of its own, with its side keys, and no call
may touch two. The calls are written in ``calls``, and their answers read in ``outcomes``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.errors import TransportError
from transport.message.identity import partition_of
from transport.redis.append.calls import RECORDS_PER_CALL, AppendCall, AppendCalls
from transport.redis.append.confirmation import Confirmation
from transport.redis.append.outcomes import (
    doubted,
    left_behind,
    outcomes_of,
    remembered,
    told_apart,
)
from transport.redis.append.own_appends import OwnAppends, Run
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply, ServerChanged
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys
from transport.redis.rescue.last_seen import LastSeen
from transport.redis.rescue.rescue import Rescue
from transport.redis.rescue.shard_rescues import ShardRescues

__all__ = ["Publisher"]

_CHANGES = 8  # of servers, in a moment, after which a call is refused


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
        last_seen: LastSeen,
        own_appends: OwnAppends,
        confirmation: Confirmation,
        rescue: Rescue,
    ) -> None:
        self._rescue = rescue
        self._confirmation = confirmation
        self._functions = functions
        self._last_seen = last_seen
        self._log = log
        self._group = group
        self._seconds = seconds
        self._own_appends = own_appends
        self._calls = AppendCalls(functions, log, group=group, own_appends=own_appends)
        self._rescues: ShardRescues | None = None

    def keep_slots_apart(self, rescues: ShardRescues | None) -> None:
        """Touch one partition a call from now on, as a cluster wants it.

        ``rescues``: those of its partitions, where they are on several servers.
        """
        self._calls.by_slot, self._rescues = True, rescues

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
        for calls in self._calls.trips(envelopes, self._seconds if remember else 0):
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
                    replies = [left_behind()] * len(replies)
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
                some = [doubted(it, doubt) for it in some] if doubt else some
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
        for calls in self._calls.trips(envelopes, self._seconds if remember else 0):
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
                            doubted(it, doubt) if doubt else it
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
        self, rescues: ShardRescues, calls: Sequence[AppendCall], rescued_at: str
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
                    told[partition] = left_behind(), ()
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

    def _outcomes(self, reply: Reply, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        items = [reply] if type(reply) is bytes else reply
        runs: dict[int, Run] = {}
        if type(items) is list:
            items = told_apart(items, envelopes, runs)
        outcomes = outcomes_of(items, len(envelopes))
        for partition, run in runs.items():
            self._own_appends.appended(partition, run)
        last = outcomes[-1]
        if type(last) is Appended:  # one of a call is enough to tell whether the log goes back
            self._last_seen.saw(envelopes[-1].partition, last.offset)
        return outcomes

    def _outcomes_by_partition(
        self, replies: Sequence[Reply], calls: Sequence[AppendCall], envelopes: Sequence[Envelope]
    ) -> list[Outcome]:
        """Return the outcomes of one trip in the order of ``envelopes``, which begin with it."""
        outcomes = {
            call.partition: iter(self._outcomes(reply, call.envelopes))
            for call, reply in zip(calls, replies, strict=True)
        }
        count = sum(len(call.envelopes) for call in calls)
        return [next(outcomes[envelope.partition]) for envelope in envelopes[:count]]

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
                        self._calls.keys(memory, [stream for stream, _ in questions]),
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
            memory = partition if self._calls.by_slot else None
            places.setdefault(memory, []).append((streams[partition], identifier))
        return places
