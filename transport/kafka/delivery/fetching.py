"""Fetching: moves records from a member's client into its claims, as far as these have room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka.client.damaged import damage_of
from transport.kafka.client.errors import translate
from transport.kafka.client.lingering import Lingering
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.delivery.continuity import Continuity
from transport.kafka.delivery.damaged_partitions import DamagedPartitions
from transport.kafka.delivery.passing import GapPassing
from transport.kafka.delivery.throttled_fetches import ThrottledFetches
from transport.kafka.log import TopicLayout
from transport.kafka.loss.compacted import CompactedOffsets, RemovedBefore
from transport.kafka.loss.leader_epochs import epochs_of_fetches
from transport.kafka.reader import KafkaReader

__all__ = ["Fetching"]

log = logging.getLogger(__name__)

_FETCH_RECORDS = 500  # records to convert before other tasks of the event loop get a turn
_POLL_MS = 1000
_POLL_FULL_MS = 20  # while a window is full: it may have room again at any moment
_ERRORS_BORNE = 5  # errors in a row, half a second apart, before the client is replaced
_ERROR_PAUSE = 0.5


class Fetching:
    """Fetches for the claims of one member; ``claims`` has them by partition.

    Make it before the client is started.
    """

    def __init__(
        self,
        client: AIOKafkaConsumer,
        claims: Mapping[int, KafkaClaim],
        *,
        source: TopicLayout,
        reader: KafkaReader,
        continuity: Continuity,
        gaps: GapPassing,
        damaged: DamagedPartitions,
    ) -> None:
        self._client = client
        self._claims = claims
        self._source = source
        self._reader = reader
        self._continuity = continuity
        self._gaps = gaps
        self._damaged = damaged
        self._fetched_under = epochs_of_fetches(client)
        self._compacted = CompactedOffsets(client)
        self._lingering = Lingering(client)
        self.throttled = ThrottledFetches(client)
        self._unchecked = False

    async def run(self) -> None:
        """Fetch until cancelled.

        Raises:
            KafkaError: the client fails again and again, or because of a setting.
        """
        failures = 0
        while True:
            # Records without room stay in the client's buffer, and it fetches no more of that
            # partition. (Pausing would drop the buffer, and the records would be fetched again.)
            reading = {
                p: claim
                for p, claim in self._claims.items()
                if claim.reading and p not in self._damaged
            }
            room = [self._source.at(p) for p, claim in reading.items() if not claim.window.full]
            full = len(room) < len(reading)
            if not room and (full or self._damaged.any()):  # without arguments, getmany returns all
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
                translated = translate(error, starting=True)
                if failures > _ERRORS_BORNE or isinstance(translated, ConfigurationError):
                    raise
                if failures == 1:
                    log.warning("Read from Kafka failed; will retry", extra={"error": str(error)})
                self._read_again()
                await asyncio.sleep(_ERROR_PAUSE)
                continue
            failures = 0
            self._lingering.fetched(records=bool(fetched))
            await self._take_in(fetched)
            await self._gaps.look(self._count_lost)
            await asyncio.sleep(0)  # getmany returns at once while it has something

    async def is_intact(self, claims: Sequence[KafkaClaim]) -> bool:
        """Return whether the log still has the records that these claims have read.

        A claim whose log went back takes in no more records, and its partition is claimed again. If
        Kafka can't answer, the fetched records are dropped and fetched again: no records are taken
        in before the comparison.
        """
        try:
            broken = await self._continuity.broken(claims)
        except TransportUnavailable as error:
            if not self._unchecked:
                self._unchecked = True
                log.warning(
                    "Could not check whether the log still has the records that were read; will "
                    "retry",
                    extra={"error": str(error)},
                )
            for claim in claims:
                if self.holds(claim):
                    self._client.seek(self._source.at(claim.partition), claim.window.fetched)
            await asyncio.sleep(_ERROR_PAUSE)
            return False
        self._unchecked = False
        for claim, tail in broken.items():
            if self.holds(claim):
                self._continuity.remember(claim, tail)
                self._client.pause(self._source.at(claim.partition))
                claim.finish()
        return not broken and all(self.holds(claim) for claim in claims)

    def holds(self, claim: KafkaClaim) -> bool:
        """Return whether the claim is current and takes in records."""
        return claim.reading and self._claims.get(claim.partition) is claim

    def _read_again(self) -> None:
        """Set the client back to the claims' offsets, since a failed call drops fetched records.

        Otherwise an error in one partition would skip records of the others.
        """
        for partition, claim in self._claims.items():
            self._pass_by(self._source.at(partition), claim)

    async def _take_in(self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Move fetched records into their claims; first check that the log did not go back."""
        under = {at: self._fetched_under.get(at, -1) for at in fetched}
        # The claims of now. During the checks a partition may be claimed again, further back: with
        # these records, its new claim would skip those that the old one did not acknowledge.
        claims = {at: self._claims.get(at.partition) for at in fetched}
        for at, records in fetched.items():
            claim = claims[at]
            if claim is None or not self.holds(claim):
                self._pass_by(at, claim)
                continue
            expected = claim.window.fetched
            if records[0].offset < expected or under[at] != claim.leader:
                if not await self.is_intact([claim]):
                    self._pass_by(at, claim)
                    continue
                claim.leader = under[at]
                if claim.back_over_gap() or records[0].offset < expected:
                    self._client.seek(at, claim.window.fetched)
                    continue
            damage = damage_of(records[0])
            if damage is not None and self._damaged.must_read_again(
                at.partition, records[0].offset, damage
            ):
                claim.blocked = self._damaged.blockage(at.partition)
                self._client.seek(at, expected)
                continue
            self._damaged.forget(at.partition)
            claim.blocked = None
            removed = self._compacted.take(at, claim.last_offset + 1, records)
            missing = claim.receive(records, under[at])
            if damage is not None and damage.end is not None:
                claim.pass_over(damage.end)
                claim.lose_records(damage.records)
                self._compacted.forget(at)
            elif removed:
                self._count_removed(claim, removed)
            if missing:
                await self._count_lost(claim, expected)

    def _pass_by(self, at: TopicPartition, claim: KafkaClaim | None) -> None:
        """Read records again that ``claim`` does not take in now, if it may do so later."""
        if claim is not None and claim.assigned and self._claims.get(at.partition) is claim:
            self._client.seek(at, claim.window.fetched)

    def _count_removed(self, claim: KafkaClaim, removed: Sequence[RemovedBefore]) -> None:
        claim.lose_before(removed)
        log.error(
            "Compaction removed records before they were read: set the topic's cleanup.policy to "
            "delete, and run `crossfade audit`",
            extra={
                "topic": self._source.name,
                "partition": claim.partition,
                "lost": sum(gap.removed for gap in removed),
            },
        )

    async def _count_lost(self, claim: KafkaClaim, expected: int) -> None:
        """Count missing offsets as lost, if the log has removed them; else they had no record."""
        at = self._source.at(claim.partition)
        try:
            begin = (await self._reader.begins([at]))[at]
        except TransportUnavailable:
            return
        if begin > expected:
            log.error(
                "Kafka removed records before they were read. Run `crossfade audit`",
                extra={"partition": claim.partition},
            )
            claim.lose_records(begin - expected)
