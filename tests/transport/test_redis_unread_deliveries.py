"""Records that were handed over and are not acknowledged: the group's place, and who is told."""

from __future__ import annotations

import asyncio

import pytest

from transport.redis.delivery.joint_acks import DueAck
from transport.redis.delivery.unread_deliveries import UnreadDeliveries

MOMENT = 7


@pytest.fixture
def unread() -> UnreadDeliveries:
    """Two that were handed over, of two records and of three; the group is at 10-0."""
    unread = UnreadDeliveries()
    unread.take("10-0", "12-0", "m12", 2)
    unread.take("12-0", "15-0", "m15", 3)
    return unread


def test_the_group_is_before_the_first_until_that_is_acknowledged(unread: UnreadDeliveries) -> None:
    assert unread.passed("12-0", None)
    assert unread.begin_ack() == DueAck("10-0", "12-0", "m12", 2)
    unread.take("15-0", "16-0", "m16", 1)
    assert unread.passed("16-0", None)
    unread.acked("12-0", MOMENT)
    assert unread.begin_ack() == DueAck("12-0", "16-0", "m16", 4)
    unread.acked("16-0", MOMENT)
    assert not unread.any
    assert unread.begin_ack() is None
    unread.take("30-0", "31-0", "m31", 1)  # others were read meanwhile
    unread.passed("31-0", None)
    assert unread.begin_ack() == DueAck("30-0", "31-0", "m31", 1)


def test_one_that_is_dropped_goes_back_to_what_is_acknowledged(unread: UnreadDeliveries) -> None:
    unread.passed("12-0", None)
    unread.begin_ack()
    unread.acked("12-0", MOMENT)
    assert unread.drop() == "12-0"
    assert not unread.any


def test_what_was_not_handed_over_passes_nothing(unread: UnreadDeliveries) -> None:
    assert not unread.passed("14-0", None)
    assert unread.begin_ack() is None
    assert not UnreadDeliveries().passed("12-0", None)


def test_nothing_is_dropped_while_an_acknowledgement_is_due_or_under_way(
    unread: UnreadDeliveries,
) -> None:
    assert unread.may_drop
    unread.passed("12-0", None)
    assert not unread.may_drop, "due"
    unread.begin_ack()
    assert not unread.may_drop, "under way"
    unread.acked("12-0", MOMENT)
    assert unread.may_drop


def test_each_is_told_of_its_own_acknowledgement(unread: UnreadDeliveries) -> None:
    told: list[tuple[str, int | None]] = []
    unread.passed("12-0", lambda began: told.append(("12-0", began)))
    unread.begin_ack()
    unread.passed("15-0", lambda began: told.append(("15-0", began)))
    unread.acked("12-0", MOMENT)
    assert told == [("12-0", MOMENT)]
    unread.drop()
    assert told == [("12-0", MOMENT), ("15-0", None)]


@pytest.mark.parametrize("end", ["acknowledged", "dropped", "not taken"])
async def test_who_waits_until_nothing_is_left_goes_on(end: str) -> None:
    unread = UnreadDeliveries()
    unread.take("10-0", "12-0", "m12", 2)
    waiting = [asyncio.create_task(unread.none_left()) for _ in range(2)]
    await asyncio.sleep(0)
    assert unread.is_awaited
    if end == "acknowledged":
        unread.passed("12-0", None)
        unread.begin_ack()
        unread.acked("12-0", MOMENT)
    elif end == "dropped":
        unread.drop()
    else:
        unread.take_back()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert not unread.is_awaited
