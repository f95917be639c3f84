"""Publishing: a whole tick, for all its partitions, in one round trip and one function call.

One call for each of sixteen partitions would take up a quarter of the server's work and half of
this process's. A cluster does need a call for each partition: each has a slot of its own, and no
call may touch two slots. ``calls`` encodes the calls, and ``outcomes`` decodes the replies.
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
    failover_error,
    foreign_reply,
    outcomes_of,
    remembered,
    unconfirmed_outcome,
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

Runs = dict[int, Run]  # the records of a trip, by partition

_CHANGES = 8  # attempts of a call that finds another server each time, before it is refused


class Publisher:
    """Appends to one log's partitions, and remembers the message ids for ``seconds``.

    A repeat is answered from this memory only if its record is in the log, or left the log after
    the published position of ``group`` had passed it. In any other case there may be no row, so the
    repeat is appended.

    ``own_appends`` gets the appended records, for the readers of this process. ``confirmation``
    says whether replicas have to confirm them.
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
        self._calls = AppendCalls(functions, log, group=group)
        self._rescues: ShardRescues | None = None

    def keep_slots_apart(self, rescues: ShardRescues | None) -> None:
        """Touch only one partition in each call from now on, as a cluster requires.

        ``rescues``: the rescues of the partitions, if they are on several servers.
        """
        self._calls.by_slot, self._rescues = True, rescues

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool, rescued_at: str = ""
    ) -> list[Outcome]:
        """Append in order; see ``transport.contract.Transport.publish``.

        ``rescued_at``: the replication id of the server to which a rescue appends lost records
        again, while all other appends wait. Replicas need not confirm these: they were
        acknowledged already.
        """
        if self._rescues is not None:
            return await self._publish_by_slot(self._rescues, envelopes, remember, rescued_at)
        outcomes: list[Outcome] = []
        recent = self._rescue.recent
        # One trip after the other. Otherwise a call that is repeated because the library was
        # missing could come after the next one.
        for calls in self._calls.trips(envelopes, self._seconds if remember else 0):
            number = self._own_appends.begin()
            try:
                # Inline, not in a method: every message pays for each frame down to the socket.
                # A rescue's records are for one server. If that changes, the rescue begins again.
                closing = () if rescued_at else self._confirmation.commands
                passing = () if rescued_at else (ServerChanged,)
                replies: list[Reply] | None = None
                while replies is None:
                    if not rescued_at:
                        await self._rescue.wait()
                    begun = self._rescue.begun
                    with suppress(*passing):
                        replies = await self._functions.exchange(
                            [call.command for call in calls],
                            closing=closing,
                            only_at=rescued_at or self._rescue.server,
                        )
                if begun != self._rescue.begun and not rescued_at:
                    replies = [failover_error()] * len(replies)
                doubt = None if rescued_at else self._confirmation.doubt(replies[len(calls) :])
                replies = replies[: len(calls)]
                runs: Runs = {}
                if len(calls) == 1:
                    some = self._outcomes(replies[0], calls[0].envelopes, runs)
                else:
                    rest = envelopes[len(outcomes) :]
                    some = self._outcomes_by_partition(replies, calls, rest, runs)
                some = [unconfirmed_outcome(it, doubt) for it in some] if doubt else some
                self._keep({} if doubt or rescued_at else runs)
                recent.add(envelopes[len(outcomes) :][: len(some)], some, remember=remember)
                outcomes += some
                _check_all(replies)
            except TransportError as error:
                # Fail the rest as well: later records must not overtake these.
                return outcomes + [error] * (len(envelopes) - len(outcomes))
            finally:
                self._own_appends.end(number)
        return outcomes

    async def _publish_by_slot(
        self,
        rescues: ShardRescues,
        envelopes: Sequence[Envelope],
        remember: bool,
        rescued_at: str,
    ) -> list[Outcome]:
        """Append each partition's records in order; a refusal fails only its own partition."""
        outcomes: list[Outcome] = []
        refused: dict[int, TransportError] = {}  # later records of the partition fail as well
        for calls in self._calls.trips(envelopes, self._seconds if remember else 0):
            number = self._own_appends.begin()
            try:
                due = [call for call in calls if call.partition not in refused]
                told = await self._tell_by_slot(rescues, due, rescued_at)
                some: dict[int, Iterator[Outcome]] = {}
                for call in calls:
                    reply, closing = told.get(call.partition) or (refused[call.partition], ())
                    runs: Runs = {}
                    found = self._outcomes(reply, call.envelopes, runs)
                    if isinstance(reply, Exception):
                        refused[call.partition] = translate(reply)
                    elif not rescued_at:
                        new, old = self._confirmation.doubts_at(closing)
                        doubts = [new if type(it) is Appended else old for it in found]
                        found = [
                            unconfirmed_outcome(it, doubt) if doubt else it
                            for it, doubt in zip(found, doubts, strict=True)
                        ]
                        if new is None:
                            self._keep(runs)
                    recent = rescues.of(call.partition).recent
                    recent.add(call.envelopes, found, remember=remember)
                    some[call.partition] = iter(found)
                count = sum(len(call.envelopes) for call in calls)
                rest = envelopes[len(outcomes) :][:count]
                outcomes += [next(some[envelope.partition]) for envelope in rest]
            except TransportError as error:
                return outcomes + [error] * (len(envelopes) - len(outcomes))
            finally:
                self._own_appends.end(number)
        return outcomes

    async def _tell_by_slot(
        self, rescues: ShardRescues, calls: Sequence[AppendCall], rescued_at: str
    ) -> dict[int, tuple[Reply, Sequence[Reply]]]:
        """Return, by partition, the reply to its call and the replies to the closing commands."""
        told: dict[int, tuple[Reply, Sequence[Reply]]] = {}
        if rescued_at:
            replies, _ = await self._functions.spread(
                [call.command for call in calls],
                are_at=[rescues.of(call.partition).at(rescued_at) for call in calls],
            )
            return {call.partition: (it, ()) for call, it in zip(calls, replies, strict=True)}
        begun: dict[int, int] = {}
        for _ in range(_CHANGES):
            refusals = await rescues.wait([call.partition for call in calls])
            begun |= {call.partition: rescues.of(call.partition).begun for call in calls}
            told |= {partition: (error, ()) for partition, error in refusals.items()}
            due = {call.partition: call for call in calls if call.partition not in refusals}
            replies, closed = await self._functions.spread(
                [call.command for call in due.values()],
                closing=self._confirmation.commands_at,
                are_at=[rescues.of(p).is_at for p in due],
            )
            told |= dict(zip(due, zip(replies, closed, strict=True), strict=True))
            calls = [call for p, call in due.items() if type(told[p][0]) is ServerChanged]
            if not calls:
                break
        # Only now: others may have begun while the last calls waited for a rescue.
        for partition, (reply, _) in told.items():
            left = begun[partition] != rescues.of(partition).begun
            if left and not isinstance(reply, Exception):
                told[partition] = failover_error(), ()
        return told

    async def _exchange(
        self, commands: Sequence[Command], memories: Sequence[int | None]
    ) -> list[Reply]:
        """Exchange with servers on which no rescue is under way.

        ``memories``: for each command, the partition whose memories it reads.
        """
        if (rescues := self._rescues) is not None:
            partitions = [it for it in memories if it is not None]
            for error in (await rescues.wait(partitions)).values():
                raise error
            are_at = [rescues.of(partition).is_at for partition in partitions]
            replies, _ = await self._functions.spread(commands, are_at=are_at)
            return replies
        while True:
            await self._rescue.wait()
            with suppress(ServerChanged):
                return await self._functions.exchange(commands, only_at=self._rescue.server)

    def _keep(self, runs: Runs) -> None:
        for partition, run in runs.items():
            if run.is_dense:
                self._own_appends.appended(partition, run)

    def _outcomes(
        self, reply: Reply, envelopes: Sequence[Envelope], runs: Runs
    ) -> Sequence[Outcome]:
        """Return the outcomes of one call, and add its new records to ``runs``.

        Raises:
            AppendUnknown: the reply is none of an append.
        """
        items, time = reply, 0
        try:
            if type(reply) is list:
                items, time = reply[:-1], int(reply[-1])
            elif type(reply) is bytes:  # of an XADD, whose id has its time
                items, time = [reply], int(reply.partition(b"-")[0])
            outcomes = outcomes_of(items, len(envelopes))
            new = [
                (envelope, outcome.offset)
                for envelope, outcome in zip(envelopes, outcomes, strict=True)
                if type(outcome) is Appended
            ]
            for partition, last in {it.partition: offset for it, offset in new}.items():
                self._last_seen.note_seen(partition, last)
            for envelope, offset in new if self._own_appends.has_readers else ():
                run = runs.get(envelope.partition)
                if run is None:
                    run = runs[envelope.partition] = Run([], [], time / 1000)
                run.envelopes.append(envelope)
                run.offsets.append(offset)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise foreign_reply(reply, self._functions.library) from error
        return outcomes

    def _outcomes_by_partition(
        self,
        replies: Sequence[Reply],
        calls: Sequence[AppendCall],
        envelopes: Sequence[Envelope],
        runs: Runs,
    ) -> list[Outcome]:
        """Return the outcomes of one trip; its envelopes are the first of ``envelopes``."""
        outcomes = {
            call.partition: iter(self._outcomes(reply, call.envelopes, runs))
            for call, reply in zip(calls, replies, strict=True)
        }
        count = sum(len(call.envelopes) for call in calls)
        return [next(outcomes[envelope.partition]) for envelope in envelopes[:count]]

    async def recall(self, message_ids: Sequence[str]) -> list[Remembered | None]:
        """Look up the record of each message id, within the idempotency window.

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
        """Return the stream and id of each message, by the partition whose memories hold them.

        ``None``: the memories of the whole log.
        """
        streams = self._log.streams
        places: dict[int | None, list[tuple[str, str]]] = {}
        for identifier in message_ids:
            # A receipt's id begins with the id of its message.
            partition = partition_of(identifier.partition("/")[0], len(streams))
            memory = partition if self._calls.by_slot else None
            places.setdefault(memory, []).append((streams[partition], identifier))
        return places


def _check_all(replies: Sequence[Reply]) -> None:
    """Raise the error of the first call that was refused, or got no reply.

    Raises:
        TransportError: such a call's.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise translate(reply)
