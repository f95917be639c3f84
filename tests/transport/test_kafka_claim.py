"""What a claim of Kafka hands out, commits and gives back, by what its membership tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord

from transport.contract import Record, Topic
from transport.errors import PartitionLost, TransportUnavailable
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.group.groups import Committed
from transport.kafka.loss.mark import Mark, SeenEnd

PATIENCE = 5.0


class _Owner:
    """A membership that notes what is committed."""

    def __init__(self) -> None:
        self.fault: TransportUnavailable | None = None
        self.topic = "ours"
        self.is_proved = True
        self.refuses = False
        self.sight: SeenEnd | None = None
        self.committed: list[Committed] = []
        self.back: list[KafkaClaim] = []

    def topic_id(self) -> str | None:
        return self.topic

    async def commit(self, partition: int, committed: Committed) -> None:
        assert partition == 0
        if self.refuses:
            raise PartitionLost("it is another's")
        self.committed.append(committed)

    def is_membership_confirmed(self) -> bool:
        return self.is_proved

    def seen(self, partition: int) -> SeenEnd | None:
        assert partition == 0
        return self.sight

    def handed_back(self, claim: KafkaClaim) -> None:
        self.back.append(claim)


def fetched(*offsets: int) -> list[ConsumerRecord]:
    """Return records as they are fetched."""
    return [ConsumerRecord("t", 0, at, 1000, 1, b"k", b"v", None, 1, 1, ()) for at in offsets]


def offsets_of(records: Sequence[Record]) -> list[int]:
    return [int(record.offset) for record in records]


@pytest.fixture
def owner() -> _Owner:
    return _Owner()


@pytest.fixture
def claim(owner: _Owner) -> KafkaClaim:
    mark = Mark(epoch=7, topic_id="ours")
    return KafkaClaim(owner, topic=Topic.MESSAGES, partition=0, start=0, mark=mark)


async def test_an_acknowledgement_has_the_leader_epoch_of_its_last_record(
    owner: _Owner, claim: KafkaClaim
) -> None:
    claim.receive(fetched(0, 1), leader=5)
    claim.receive(fetched(2, 3), leader=6)
    assert offsets_of(await claim.next(max_records=9, max_wait=0)) == [0, 1, 2, 3]
    for through, leader in (("0", 5), ("1", 5), ("2", 6), ("3", 6)):
        await claim.ack(through)
        last = owner.committed[-1].mark.last
        assert last is not None
        assert (last.at, last.leader) == (int(through), leader)
    assert [committed.offset for committed in owner.committed] == [1, 2, 3, 4]


async def test_what_is_acknowledged_already_is_committed_once(
    owner: _Owner, claim: KafkaClaim
) -> None:
    claim.receive(fetched(0, 1, 2))
    await claim.next(max_records=9, max_wait=0)
    await claim.ack("2")
    await claim.ack("1")
    await claim.ack("2")
    assert [committed.offset for committed in owner.committed] == [3]


async def test_nothing_is_handed_out_before_a_membership_in_doubt_is_proved(
    owner: _Owner, claim: KafkaClaim
) -> None:
    claim.receive(fetched(0))
    owner.is_proved = False
    owner.refuses = True
    with pytest.raises(PartitionLost):
        await claim.next(max_records=9, max_wait=0)
    owner.refuses = False
    assert offsets_of(await claim.next(max_records=9, max_wait=0)) == [0]
    assert [committed.offset for committed in owner.committed] == [0]


async def test_a_claim_that_ends_is_handed_back_with_its_last_acknowledgement(
    owner: _Owner, claim: KafkaClaim
) -> None:
    """Its log went back: what was fetched before is handed out, and then it is claimed anew."""
    claim.receive(fetched(0, 1))
    claim.finish()
    assert not claim.reading
    assert offsets_of(await claim.next(max_records=9, max_wait=0)) == [0, 1]
    waiting = asyncio.create_task(claim.next(max_records=9, max_wait=600))
    await asyncio.sleep(0)
    await claim.ack("1")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(PartitionLost):
            await waiting
    assert owner.back == [claim]


@pytest.mark.parametrize("end", ["left", "lost before", "revoked before", "topic made anew"])
async def test_who_leaves_a_claim_hands_it_back_if_it_still_has_it(
    owner: _Owner, claim: KafkaClaim, end: str
) -> None:
    """Also if its topic seems to be another one: nobody else would claim the partition."""
    async with claim:
        if end == "lost before":
            claim.lose()
        elif end == "revoked before":
            claim.revoke()
        elif end == "topic made anew":
            owner.topic = "another"
    assert owner.back == ([claim] if end in {"left", "topic made anew"} else [])
    async with asyncio.timeout(PATIENCE):
        await claim.left()
    with pytest.raises(PartitionLost):
        await claim.ack("0")


@pytest.mark.parametrize("how", ["revoked", "lost", "topic made anew"])
async def test_who_waits_for_records_of_a_claim_that_goes_is_told(
    owner: _Owner, claim: KafkaClaim, how: str
) -> None:
    waiting = asyncio.create_task(claim.next(max_records=9, max_wait=600))
    await asyncio.sleep(0)
    if how == "revoked":
        claim.revoke()
    elif how == "lost":
        claim.lose()
    else:
        owner.topic = "another"
        claim.wake()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(PartitionLost):
            await waiting


async def test_a_claim_that_is_asked_back_acknowledges_and_hands_nothing_out(
    owner: _Owner, claim: KafkaClaim
) -> None:
    claim.receive(fetched(0, 1))
    await claim.next(max_records=1, max_wait=0)
    claim.revoke()
    with pytest.raises(PartitionLost):
        await claim.next(max_records=1, max_wait=0)
    await claim.ack("0")
    assert [committed.offset for committed in owner.committed] == [1]


async def test_offsets_without_a_record_are_committed_and_once_more_when_the_log_is_beyond(
    owner: _Owner, claim: KafkaClaim
) -> None:
    claim.receive(fetched(0))
    await claim.next(max_records=9, max_wait=0)
    assert claim.gap() is None, "a record is held"
    await claim.ack("0")
    assert claim.gap() is None
    claim.pass_over(5)  # markers
    gap = claim.gap()
    assert gap is not None
    assert (gap.offset, gap.mark.seen) == (5, None)
    claim.passed(gap)
    assert claim.gap() is None
    owner.sight = SeenEnd(4, 1)
    assert claim.gap() is None, "the log was not seen beyond them"
    owner.sight = SeenEnd(5, 1)
    again = claim.gap()
    assert again is not None
    assert (again.offset, again.mark.seen) == (5, owner.sight)
    claim.passed(again)
    assert claim.gap() is None


async def test_an_epoch_is_raised_above_both(owner: _Owner, claim: KafkaClaim) -> None:
    await claim.raise_epoch(9)
    assert claim.epoch == 10
    await claim.raise_epoch(3)
    assert claim.epoch == 11
    assert [committed.mark.epoch for committed in owner.committed] == [10, 11]
