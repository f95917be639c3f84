"""The membership of one client in a group: it claims assigned partitions and gives up revoked ones.

Rebalances are eager: all partitions are revoked, and some come back as claims with a new epoch.
(aiokafka has no other kind, see its issue 1126; KIP-429 would keep the partitions that stay.) In
between, the owner of a claim has a limited time to finish its batch and acknowledge it in the old
generation, so a rebalance redelivers few records or none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from transport.errors import TransportUnavailable
from transport.kafka.connection.closing import start
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.delivery.claiming import Claiming
from transport.kafka.delivery.continuity import Continuity
from transport.kafka.delivery.damaged_partitions import DamagedPartitions
from transport.kafka.delivery.fetching import Fetching
from transport.kafka.delivery.passing import GapPassing
from transport.kafka.delivery.readable_ends import ReadableEnds
from transport.kafka.delivery.timing import Timing
from transport.kafka.delivery.watchdog import StalledError, Stalls, Watchdog
from transport.kafka.group.commits import Commits
from transport.kafka.group.context import GroupContext
from transport.kafka.group.groups import Committed
from transport.kafka.loss.mark import SeenEnd

__all__ = ["KafkaMembership"]

log = logging.getLogger(__name__)


class KafkaMembership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is not typed
    """Runs ``client`` in its group until it fails.

    Args:
        client: The client, not yet started.
        context: The group and its topic.
        timing: The time limits.
        offer: Called with each claim.
        looked: Called after each look at the log, with an error while it can't be read.
        stalls: The offsets at which earlier clients stopped.
    """

    def __init__(
        self,
        client: AIOKafkaConsumer,
        context: GroupContext,
        *,
        timing: Timing,
        offer: Callable[[KafkaClaim], None],
        looked: Callable[[TransportUnavailable | None], None],
        stalls: Stalls,
    ) -> None:
        self._client = client
        self._context = context
        self._source = source = context.source
        self._timing = timing
        self._offer = offer
        self._looked = looked
        self._ended = False
        self._ends: dict[int, int] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchdog = Watchdog(timing.lease, timing.rebalance, stalls)
        self.claims: dict[int, KafkaClaim] = {}
        self.fault: TransportUnavailable | None = None
        self.kept_out = False
        """Whether the group does not let this member in, for a reason that ``fault`` names."""
        self.let_in = False
        """Whether the group has ever let this member in."""
        self.spare = False
        """Whether the group has let this member in, but has no partition for it."""
        self._damaged = DamagedPartitions(source.name, patience=timing.damage)
        self._continuity = Continuity(source.name, ids=context.ids, tails=context.tails)
        self._readable_ends = ReadableEnds(context.reader)
        self._commits = Commits(client, source.name, timeout=timing.request)
        self._gaps = GapPassing(client, self.claims, source=source, commits=self._commits)
        self._fetching = Fetching(
            client,
            self.claims,
            source=source,
            reader=context.reader,
            continuity=self._continuity,
            gaps=self._gaps,
            damaged=self._damaged,
        )
        self._claiming = Claiming(
            self,
            context,
            continuity=self._continuity,
            commits=self._commits,
            ready=self._ready,
            failed=self._fail,
        )

    async def run(self) -> None:
        """Run the membership until it fails. Never returns; raises a group of the errors."""
        # For the first group ever, Kafka first creates its topic of groups. Wait for that here: the
        # client would log each refusal as an error.
        context, source = self._context, self._source
        await context.groups.committed(context.group, source.name, source.partitions)
        await context.reader.connect()  # now, since during a rebalance nobody reads the partitions
        await start(self._client, within=self._timing.request)
        self._client.subscribe([self._source.name], listener=self)
        self._watchdog.joining()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetching.run())
            tasks.create_task(self._watch())
            await self._failure

    async def end(self) -> None:
        """Lose every claim and commit no more, even if the group still assigns partitions."""
        self._ended = True
        await self._claiming.cancel()
        await self._lose_claims()

    # The interface for claims (``Owner``).

    async def commit(self, partition: int, committed: Committed) -> None:
        """See ``transport.kafka.delivery.claim.Owner``."""
        await self._commits.commit({partition: committed})

    def topic_id(self) -> str | None:
        """See ``transport.kafka.delivery.claim.Owner``."""
        return self._context.ids.last_seen(self._source.name)

    def is_membership_confirmed(self) -> bool:
        """See ``transport.kafka.delivery.claim.Owner``.

        The group expels a member from which it hears nothing for the time of a lease. A successful
        commit proves that it has heard from this one.
        """
        age = asyncio.get_running_loop().time() - self._commits.proved_at
        return age < self._timing.lease / 2

    def seen(self, partition: int) -> SeenEnd | None:
        """See ``transport.kafka.delivery.claim.Owner``."""
        return self._continuity.seen(partition)

    def handed_back(self, claim: KafkaClaim) -> None:
        """See ``transport.kafka.delivery.claim.Owner``.

        A member can't give up a single partition, so it is claimed and offered again.
        """
        if self.claims.get(claim.partition) is claim and not self._ended:
            del self.claims[claim.partition]
            self._damaged.forget(claim.partition)
            self._client.pause(self._source.at(claim.partition))
            self._claiming.start([claim.partition])

    # The interface for the group (``ConsumerRebalanceListener``).

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Give the claims' owners ``timing.drain`` seconds to finish; then lose the claims.

        The group waits for this call.
        """
        self._watchdog.joining()
        self.spare = False
        # First of all: until then, a claim that its user leaves would be claimed again.
        for claim in self.claims.values():
            claim.revoke()
        await self._claiming.cancel()
        leaving = [asyncio.ensure_future(claim.left()) for claim in self.claims.values()]
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=self._timing.drain)
            for task in late:
                task.cancel()
        await self._lose_claims()
        if revoked:  # on joining, there are none
            log.info(
                "Partitions revoked", extra={"group": self._context.group, "count": len(revoked)}
            )

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin to claim the assigned partitions. Heartbeats wait for this call, so it is short."""
        self._watchdog.joined()
        self.let_in = True
        self.spare = not assigned
        if assigned and not self._ended:
            self._client.pause(*assigned)
            self._claiming.start([at.partition for at in assigned])
        log.info(
            "Partitions assigned", extra={"group": self._context.group, "count": len(assigned)}
        )

    async def _lose_claims(self) -> None:
        for partition, claim in self.claims.items():
            claim.lose()
            self._note(partition, claim)
        # Now, while the old generation lasts: a later commit would count in the new one.
        await self._commits.abort()
        self.claims.clear()
        self._damaged.clear()
        self._continuity.revoked()

    # Results of claiming.

    def _ready(self, claim: KafkaClaim) -> None:
        at = self._source.at(claim.partition)
        self._client.seek(at, claim.window.acked)
        self._client.resume(at)
        self.claims[claim.partition] = claim
        self._offer(claim)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _note(self, partition: int, claim: KafkaClaim) -> None:
        """Note how many records would be lost if the topic were deleted, by our knowledge."""
        end = max(claim.window.fetched, self._ends.get(partition, 0))
        unread = end - claim.window.acked
        self._context.losses.note(partition, claim.topic_id, unread=unread, lost=claim.lost_records)

    async def _watch(self) -> None:
        """Look at the log again and again, and tell the claims whether it can be read.

        Raises:
            StalledError: Kafka can be read, but no records come; or the topic was made anew.
        """
        while True:
            await asyncio.sleep(self._watchdog.every)
            doubtful = self.fault is not None
            read = {claim: claim.window.fetched for claim in self.claims.values()}
            try:
                topic = await self._context.ids.describe(self._source.name)
                ends = await self._context.reader.ends(self._everywhere())
                readable = await self._readable_ends.look(topic, ends)
            except TransportUnavailable as error:
                self.fault = error
            else:
                self.fault = await self._obstacle()
                if any(claim.topic_id != topic.id for claim in self.claims.values()):
                    raise StalledError(f"topic {self._source.name} was made anew")
                self._ends = {at.partition: end for at, end in ends.items()}
                # No records come from after the start of an open transaction.
                self._gaps.readable = {at.partition: end for at, end in readable.items()}
                suspects, changed = self._continuity.look(
                    {claim: place for claim, place in read.items() if self._fetching.holds(claim)},
                    self._ends,
                    topic.leaders,
                    doubtful=doubtful,
                )
                if not suspects or await self._fetching.is_intact(suspects):
                    self._continuity.whole(changed)
                reading = {p: c for p, c in self.claims.items() if not self._damaged.waits(p)}
                throttled = bool(self._fetching.throttled)
                try:
                    self._watchdog.check(reading, self._gaps.readable, throttled=throttled)
                except StalledError as error:
                    raise self.fault or error from None  # a known reason says more
            self._looked(self.fault)
            if self.fault is not None:
                for claim in self.claims.values():
                    claim.wake()

    async def _obstacle(self) -> TransportUnavailable | None:
        """Return the error if it is known why the group does not let us in, else ``None``."""
        group = self._context.group
        why = await self._context.groups.obstacle(group) if self._watchdog.is_kept_out() else ""
        self.kept_out = bool(why)
        return TransportUnavailable(f"the group {group} does not let us in: {why}") if why else None

    def _everywhere(self) -> list[TopicPartition]:
        """Return every partition, and claimed ones that an operator has added to the topic."""
        added = [self._source.at(p) for p in self.claims if p >= self._source.partitions]
        return self._source.all() + added
