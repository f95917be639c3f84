"""One client's life as a member of a group: partitions come and go, and records flow into claims.

Rebalances are eager (aiokafka knows no others, its issue 1126; KIP-429 would keep what stays): all
partitions are revoked and some come back, as claims of a new epoch.
Between the two, whoever works on a claim gets a bounded time to finish the batch in hand and to
acknowledge it under the old generation, so a rebalance redelivers little or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from transport.contract import Topic
from transport.errors import ConfigurationError, PartitionLost, TransportUnavailable
from transport.kafka.claim import KafkaClaim
from transport.kafka.closing import start
from transport.kafka.commits import Commits
from transport.kafka.continuity import Continuity
from transport.kafka.damaged import damage_of
from transport.kafka.errors import translate
from transport.kafka.groups import Committed, Groups
from transport.kafka.holds import Holds
from transport.kafka.identity import TopicIds
from transport.kafka.leader_epochs import epochs_of_fetches
from transport.kafka.losses import Losses
from transport.kafka.mark import Mark, Sight, next_epoch
from transport.kafka.reader import Reader
from transport.kafka.standing import standing
from transport.kafka.tails import Tails
from transport.kafka.watchdog import StalledError, Stalls, Watchdog

__all__ = ["Log", "Membership", "Timing"]

log = logging.getLogger(__name__)

_FETCH_RECORDS = 500  # turned into ours before the loop gets to do something else
_POLL_MS = 1000
_POLL_FULL_MS = 20  # while a window is full: it may have room again at any moment
_ERRORS_BORNE = 5  # in a row, half a second apart; then the client is replaced
_ERROR_PAUSE = 0.5
_GAPS_EVERY = 0.2  # seconds
_POSITION_WITHIN = 0.05
_DAMAGE_BORNE = 2  # requests' worth of time: a leader that moves is found by then
_OFFER_PAUSE_FIRST, _OFFER_PAUSE_MOST = 0.05, 2.0


class Log(NamedTuple):
    """A topic: ours, Kafka's name for it, and how many partitions it has."""

    topic: Topic
    name: str
    partitions: int

    def all(self) -> list[TopicPartition]:
        """Return every partition."""
        return [TopicPartition(self.name, partition) for partition in range(self.partitions)]


class Timing(NamedTuple):
    """Seconds: a silent member's ``lease``, ``drain`` for a batch in hand, one ``request``."""

    lease: float
    drain: float
    request: float

    @classmethod
    def of(cls, lease: float, request: float) -> Timing:
        """Return what suits a lease."""
        return cls(lease, min(max(lease / 2, 1.0), 10.0), request)

    @property
    def rebalance(self) -> float:
        """How long the group waits for a member to join again before it goes on without."""
        return self.drain + max(self.lease, 5.0)


class Membership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is not typed
    """Runs ``client`` in ``group`` until it fails. ``offer`` gets each claim.

    ``on_unreadable`` is called while the log can't be read. ``ids`` tell whether the topic was made
    anew, which this client can't; ``losses``, which outlive us, what was unread when it went;
    ``tails`` whether the log lost what it had; ``stalls`` where earlier clients came to a stop.
    """

    def __init__(
        self,
        client: AIOKafkaConsumer,
        *,
        source: Log,
        group: str,
        timing: Timing,
        reader: Reader,
        groups: Groups,
        offer: Callable[[KafkaClaim], None],
        on_unreadable: Callable[[], None],
        ids: TopicIds,
        losses: Losses,
        tails: Tails,
        stalls: Stalls,
    ) -> None:
        self._client = client
        self._source = source
        self._group = group
        self._timing = timing
        self._reader = reader
        self._groups = groups
        self._offer = offer
        self._on_unreadable = on_unreadable
        self._ids = ids
        self._losses = losses
        self._fetched_under = epochs_of_fetches(client)
        self._continuity = Continuity(source.name, ids=ids, tails=tails)
        self._ended = False
        self._ends: dict[int, int] = {}
        self._readable: dict[int, int] = {}
        self._commits = Commits(client, source.name, timeout=timing.request)
        self._offers: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchdog = Watchdog(timing.lease, timing.rebalance, stalls)
        self._held = Holds(source.name, patience=_DAMAGE_BORNE * timing.request)
        self._gaps_at = 0.0
        self._passing: set[asyncio.Task[None]] = set()
        self.claims: dict[int, KafkaClaim] = {}
        self.fault: TransportUnavailable | None = None

    async def run(self) -> None:
        """Be a member. Never returns; raises (a group of) what ended it."""
        # Asked for the first time ever, Kafka has yet to make the topic of its groups. We wait for
        # that in peace; the client would tell each refusal as an error.
        source = self._source
        await self._groups.committed(self._group, source.name, source.partitions)
        await start(self._client, within=self._timing.request)
        self._client.subscribe([self._source.name], listener=self)
        self._watchdog.joining()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump())
            tasks.create_task(self._watch())
            await self._failure

    async def end(self) -> None:
        """Lose every claim; nothing is committed any more, whatever the group still assigns."""
        self._ended = True
        await self._cancel_offers()
        await self._lose_claims()

    # What a claim asks of its owner.

    async def commit(self, partition: int, committed: Committed) -> None:
        """See :class:`transport.kafka.claim.Owner`."""
        await self._commits.commit({partition: committed})

    def topic_id(self) -> str | None:
        """See :class:`transport.kafka.claim.Owner`."""
        return self._ids.last_seen(self._source.name)

    def proved(self) -> bool:
        """See :class:`transport.kafka.claim.Owner`.

        The group expels a member it has not heard of for a lease. A commit is being heard.
        """
        age = asyncio.get_running_loop().time() - self._commits.proved_at
        return age < self._timing.lease / 2

    def seen(self, partition: int) -> Sight | None:
        """See :class:`transport.kafka.claim.Owner`."""
        return self._continuity.seen(partition)

    def handed_back(self, claim: KafkaClaim) -> None:
        """See :class:`transport.kafka.claim.Owner`. A single partition can't leave us: offer it."""
        if self.claims.get(claim.partition) is claim and not self._ended:
            del self.claims[claim.partition]
            self._held.forget(claim.partition)
            self._client.pause(self._at(claim.partition))
            self._start_offering([claim.partition])

    # What the group asks of us.

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Let claims end in order; what hasn't by then is lost. The group waits for us."""
        self._watchdog.joining()
        await self._cancel_offers()
        for claim in self.claims.values():
            claim.revoke()
        leaving = [asyncio.ensure_future(claim.left()) for claim in self.claims.values()]
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=self._timing.drain)
            for task in late:
                task.cancel()
        await self._lose_claims()
        if revoked:  # on joining, there are none
            log.info("Partitions revoked", extra={"group": self._group, "count": len(revoked)})

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin to claim what we were given. Heartbeats wait for this to return, so it is short."""
        self._watchdog.joined()
        if assigned and not self._ended:
            self._client.pause(*assigned)
            self._start_offering([at.partition for at in assigned])
        log.info("Partitions assigned", extra={"group": self._group, "count": len(assigned)})

    async def _lose_claims(self) -> None:
        for partition, claim in self.claims.items():
            claim.lose()
            self._note(partition, claim)
        # Still the old generation: a commit sent later would pass for one of the new.
        await self._commits.abort()
        self.claims.clear()
        self._held.clear()
        self._continuity.revoked()

    # Claiming.

    def _start_offering(self, partitions: Iterable[int]) -> None:
        task = asyncio.create_task(self._offering(list(partitions)))
        self._offers.add(task)
        task.add_done_callback(self._offered)

    def _offered(self, task: asyncio.Task[None]) -> None:
        """End this life if the offer failed: its partitions would be ours, and read by nobody."""
        self._offers.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not self._failure.done():
            self._failure.set_exception(error)

    async def _cancel_offers(self) -> None:
        for task in self._offers:
            task.cancel()
        if self._offers:
            await asyncio.wait(self._offers)

    async def _offering(self, partitions: list[int]) -> None:
        """Claim ``partitions``, however long Kafka keeps us waiting."""
        pause = _OFFER_PAUSE_FIRST
        while True:
            try:
                claims = await self._claim(partitions)
            except (PartitionLost, TransportUnavailable) as error:
                # Where the group has moved on, it revokes first, which ends this task. Until then
                # these are ours, and nobody else will read them.
                log.warning("Can't claim partitions yet", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, _OFFER_PAUSE_MOST)
            else:
                break
        for claim in claims:
            at = self._at(claim.partition)
            self._client.seek(at, claim.window.acked)
            self._client.resume(at)
            self.claims[claim.partition] = claim
            self._offer(claim)

    async def _claim(self, partitions: list[int]) -> list[KafkaClaim]:
        """Raise the epoch of ``partitions``, under our generation, and return their claims."""
        where = [self._at(partition) for partition in sorted(partitions)]
        source = self._source
        topic = await self._ids.describe(source.name)
        await self._reader.include([at for at in where if at.partition >= source.partitions])
        count = max(source.partitions, *(partition + 1 for partition in partitions))
        committed = await self._groups.committed(self._group, source.name, count)
        begins = await self._reader.begins(where)
        ends = await self._reader.ends(where)
        regressed = await self._continuity.regressed(partitions, committed, topic)
        marks: dict[int, Committed] = {}
        for at in where:
            now = standing(
                committed.get(at.partition),
                topic_id=topic.id,
                begin=begins[at],
                end=ends[at],
                lost_before=max(
                    self._losses.before(at.partition, topic.id),
                    self._continuity.lost_before(at.partition),
                ),
                regress=regressed.get(at),
            )
            mark = Mark(
                next_epoch(now.mark.epoch), now.mark.lost, topic.id, now.mark.last, now.mark.seen
            )
            marks[at.partition] = Committed(now.offset, mark)
        await self._commits.commit(marks)
        self._continuity.claimed(partitions, regressed)
        return [
            KafkaClaim(self, topic=source.topic, partition=partition, start=start, mark=mark)
            for partition, (start, mark) in marks.items()
        ]

    def _note(self, partition: int, claim: KafkaClaim) -> None:
        """Remember what would be lost with the topic, as far as we know it."""
        end = max(claim.window.fetched, self._ends.get(partition, 0))
        unread = end - claim.window.acked
        self._losses.note(partition, claim.topic_id, unread=unread, lost=claim.lost_records)

    # Reading.

    async def _pump(self) -> None:
        """Move fetched records into their claims, as far as these have room."""
        failures = 0
        while True:
            # What has no room stays in the client's own buffer, which then asks for no more of it.
            # (Pausing would throw that buffer away, to be fetched again.)
            reading = {
                p: claim
                for p, claim in self.claims.items()
                if claim.reading and p not in self._held
            }
            room = [self._at(p) for p, claim in reading.items() if not claim.window.full]
            full = len(room) < len(reading)
            if not room and (full or self._held.any()):  # asked for none, the client gives all
                await asyncio.sleep(_POLL_FULL_MS / 1000)
                continue
            try:
                fetched = await self._client.getmany(
                    *room,
                    timeout_ms=_POLL_FULL_MS if full else _POLL_MS,
                    max_records=_FETCH_RECORDS,
                )
            except KafkaError as error:
                failures += 1
                told = translate(error, starting=True)
                if failures > _ERRORS_BORNE or isinstance(told, ConfigurationError):
                    raise
                log.warning("Reading from Kafka failed", extra={"error": str(error)})
                self._read_again()
                await asyncio.sleep(_ERROR_PAUSE)
                continue
            failures = 0
            await self._take_in(fetched)
            await self._pass_gaps()
            await asyncio.sleep(0)  # getmany returns at once while it has something

    def _read_again(self) -> None:
        """Let the client go back to what is with the claims: it drops what it took before it fails.

        Else the records of a partition that reads well would be passed over for another one.
        """
        for partition, claim in self.claims.items():
            if claim.reading:
                self._client.seek(self._at(partition), claim.window.fetched)

    async def _pass_gaps(self) -> None:
        """Let claims go past offsets at their ends that have no record, and acknowledge those.

        Such are the markers of transactions, and what was aborted or compacted. Only the client
        knows that it has passed them. Done between two fetches, when every record that it has
        passed is with its claim.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._gaps_at:
            return
        self._gaps_at = loop.time() + _GAPS_EVERY
        for claim in list(self.claims.values()):
            expected = claim.window.fetched
            if expected >= self._readable.get(claim.partition, 0):
                continue
            position = await self._position(claim.partition)
            if position is not None and position > expected and claim.reading:
                await self._count_lost(claim, expected)
                claim.pass_over(position)
        if not self._passing and any(claim.gap() for claim in self.claims.values()):
            task = asyncio.create_task(self._acknowledge_gaps())
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _acknowledge_gaps(self) -> None:
        # Looked for here, so that nothing is committed of claims that were lost since.
        gaps = [(claim, gap) for claim in self.claims.values() if (gap := claim.gap()) is not None]
        try:
            await self._commits.commit({claim.partition: gap for claim, gap in gaps})
        except (PartitionLost, TransportUnavailable):
            return  # once more, if they are still ours
        for claim, gap in gaps:
            claim.passed(gap)

    async def _position(self, partition: int) -> int | None:
        """Return which offset the client fetches next; ``None`` while it looks for its place."""
        try:
            async with asyncio.timeout(_POSITION_WITHIN):
                position: int = await self._client.position(self._at(partition))
        except (TimeoutError, KafkaError):
            return None
        return position

    async def _take_in(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Move fetched records into their claims; first compare what may be of another log."""
        under = {at: self._fetched_under.get(at, -1) for at in fetched}
        for at, records in fetched.items():
            claim = self.claims.get(at.partition)
            if claim is None or not claim.reading:
                continue
            expected = claim.window.fetched
            if records[0].offset < expected or under[at] != claim.leader:
                if not await self._as_it_was([claim]):
                    continue
                claim.leader = under[at]
                if claim.back_over_gap() or records[0].offset < expected:
                    self._client.seek(at, claim.window.fetched)
                    continue
            damage = damage_of(records[0])
            if damage is not None and self._held.holds(at.partition, records[0].offset, damage):
                self._client.seek(at, expected)
                continue
            self._held.forget(at.partition)
            missing = claim.receive(records, under[at])
            if damage is not None and damage.end is not None:
                claim.pass_over(damage.end)
                claim.lose_records(damage.records)
            if missing:
                await self._count_lost(claim, expected)

    async def _as_it_was(self, claims: Sequence[KafkaClaim]) -> bool:
        """Return whether the log still has what these claims have read of it.

        A claim whose log went back takes no more in, and is then claimed anew. Where Kafka can't
        say, it reads again from where it was: nothing that is not compared is taken in.
        """
        try:
            broken = await self._continuity.broken(claims)
        except TransportUnavailable as error:
            log.warning("Can't compare the log with what was read", extra={"error": str(error)})
            for claim in claims:
                if self._holds(claim):
                    self._client.seek(self._at(claim.partition), claim.window.fetched)
            await asyncio.sleep(_ERROR_PAUSE)
            return False
        for claim, known in broken.items():
            if self._holds(claim):
                self._continuity.remember(claim, known)
                self._client.pause(self._at(claim.partition))
                claim.finish()
        return not broken and all(self._holds(claim) for claim in claims)

    def _holds(self, claim: KafkaClaim) -> bool:
        return claim.reading and self.claims.get(claim.partition) is claim

    async def _count_lost(self, claim: KafkaClaim, expected: int) -> None:
        """Offsets are missing: count them if the log has removed them (else they never were)."""
        at = self._at(claim.partition)
        try:
            begin = (await self._reader.begins([at]))[at]
        except TransportUnavailable:
            return
        if begin > expected:
            log.error("Records were removed unread", extra={"partition": claim.partition})
            claim.lose_records(begin - expected)

    async def _watch(self) -> None:
        """Tell claims whether Kafka can be read; raise if it can and yet nothing comes."""
        while True:
            await asyncio.sleep(self._watchdog.every)
            doubtful = self.fault is not None
            read = {claim: claim.window.fetched for claim in self.claims.values()}
            try:
                topic = await self._ids.describe(self._source.name)
                where = self._everywhere()
                ends = await self._reader.ends(where)
                readable = await self._reader.readable_ends(where)
            except TransportUnavailable as error:
                self.fault = error
                self._on_unreadable()
            else:
                self.fault = None
                if any(claim.topic_id != topic.id for claim in self.claims.values()):
                    raise StalledError(f"topic {self._source.name} was made anew")
                self._ends = {at.partition: end for at, end in ends.items()}
                # Behind a transaction that is open nothing can come.
                self._readable = {at.partition: end for at, end in readable.items()}
                suspects, changed = self._continuity.look(
                    {claim: place for claim, place in read.items() if self._holds(claim)},
                    self._ends,
                    topic.leaders,
                    doubtful=doubtful,
                )
                if not suspects or await self._as_it_was(suspects):
                    self._continuity.whole(changed)
                reading = {p: c for p, c in self.claims.items() if not self._held.waits(p)}
                self._watchdog.check(reading, self._readable)
            if self.fault is not None:
                for claim in self.claims.values():
                    claim.wake()

    def _everywhere(self) -> list[TopicPartition]:
        """Return every partition, and those of ours that somebody added to the topic by hand."""
        added = [self._at(p) for p in self.claims if p >= self._source.partitions]
        return self._source.all() + added

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._source.name, partition)
