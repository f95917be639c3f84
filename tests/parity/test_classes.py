"""Every class is found in a log that has it, and nothing else is; each with both positions."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from migration_guide.parity.check import ParityCheck, check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.result import ParityResult, Verdict
from tests.parity.still_log import EPOCH, StillLog, body_of

LATER = ParityLimits(settle=3600.0)  # nothing is judged before all is read


def pair() -> tuple[StillLog, StillLog]:
    return StillLog("redis"), StillLog("kafka")


def mirrored(
    primary: StillLog, shadow: StillLog, numbers: Sequence[int], *, at: float = 0.0, mode="sync"
) -> None:
    for number in numbers:
        of = primary.put(number, at + number)
        shadow.put(number, at + number + 0.01, of=of, mode=mode, accepted=at + number)


def counts(report: ParityCheck) -> dict[ParityResult, int]:
    return {result: n for result, n in report.totals.counts.items() if n}


async def test_equal_logs_are_equal_and_wholly_covered() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(50))
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 50}
    assert (report.totals.coverage, report.totals.verdict) == (1.0, Verdict.EQUAL)


async def test_nothing_is_not_parity() -> None:
    report = await check(*pair())
    assert report.totals.verdict is Verdict.NOTHING
    assert report.totals.parity is None
    assert report.totals.coverage is None


@pytest.mark.parametrize("swapped", [False, True], ids=["primary", "shadow"])
async def test_a_lost_copy_is_named_with_its_position_and_trace(swapped: bool) -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(3))
    primary.put(3, 3.0)
    mirrored(primary, shadow, range(4, 6))
    report = await check(*((shadow, primary) if swapped else (primary, shadow)))
    missing = ParityResult.MISSING_IN_PRIMARY if swapped else ParityResult.MISSING_IN_SHADOW
    assert counts(report) == {ParityResult.MATCHED: 5, missing: 1}
    (sample,) = report.samples
    here, there = sample.primary_offset, sample.shadow_offset
    assert ((there, here) if swapped else (here, there)) == ("3", None)
    assert sample.trace_id == f"{4:032x}"
    assert sample.correlation_id == "correlation-3"
    assert report.totals.verdict is Verdict.DIFFERS


async def test_a_lost_original_is_missing_in_the_primary() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(5))
    primary.drop(0, 2)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 4, ParityResult.MISSING_IN_PRIMARY: 1}
    (sample,) = report.samples
    assert (sample.primary_offset, sample.shadow_offset) == ("2", "2")


async def test_a_lost_end_of_the_primary_is_missing_there() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(5))
    primary.drop(0, 3, 4)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 3, ParityResult.MISSING_IN_PRIMARY: 2}


@pytest.mark.parametrize("settle", [3600.0, 5.0], ids=["at once", "as they come"])
async def test_another_record_at_the_offset_of_a_lost_one_is_not_its_original(
    settle: float,
) -> None:
    """Kafka lost its tail, and gave the offsets to what was sent afterwards."""
    primary, shadow = pair()
    mirrored(primary, shadow, range(5))
    primary.drop(0, 3, 4)
    mirrored(primary, shadow, range(10, 15), at=20.0)
    assert [record.offset for record in primary.records[0]][3:5] == ["3", "4"]
    report = await check(primary, shadow, limits=ParityLimits(settle=settle))
    assert counts(report) == {ParityResult.MATCHED: 8, ParityResult.MISSING_IN_PRIMARY: 2}
    lost = {sample.message_id for sample in report.samples}
    assert lost == {f"{body_of(number, 'c', 0, None).message_id}" for number in (3, 4)}


async def test_a_doubled_copy_is_a_duplicate_and_no_difference() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(5))
    shadow.put(1, 9.0, of="redis:1", mode="sync", accepted=1.0)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 5, ParityResult.DUPLICATE: 1}
    assert report.totals.verdict is Verdict.EQUAL
    (sample,) = report.samples
    assert (sample.primary_offset, sample.shadow_offset) == ("1", "5")


@pytest.mark.parametrize("first", [True, False], ids=["copied-later", "copied-first"])
async def test_a_doubled_original_is_a_duplicate(first: bool) -> None:
    primary, shadow = pair()
    one = primary.put(0, 0.0)
    two = primary.put(0, 1.0, accepted=0.0)
    shadow.put(0, 1.5, of=two if first else one, mode="sync", accepted=0.0)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 1, ParityResult.DUPLICATE: 1}


@pytest.mark.parametrize("first", [True, False], ids=["first-copied", "second-copied"])
async def test_a_second_body_under_a_key_is_a_conflict_and_no_difference(first: bool) -> None:
    """One of the two is dead-lettered, and a log that remembers keys takes only one of them."""
    primary, shadow = pair()
    mirrored(primary, shadow, range(1, 3))
    one = primary.put(0, 3.0, content="one")
    two = primary.put(0, 3.1, content="two")
    of, content = (one, "one") if first else (two, "two")
    accepted = 3.0 if first else 3.1
    shadow.put(0, 3.2, of=of, mode="sync", accepted=accepted, content=content)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 3, ParityResult.CONFLICT: 1}
    assert report.totals.verdict is Verdict.EQUAL
    (sample,) = report.samples
    assert sample.primary_offset == ("3" if first else "2")
    # Where the window begins between them as well.
    edge = await check(primary, shadow, since=EPOCH + 3.05)
    assert edge.totals.of(ParityResult.MISSING_IN_SHADOW, ParityResult.MISSING_IN_PRIMARY) == 0


async def test_a_redriven_message_stands_twice_in_both_logs_and_matches_twice() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(3))
    again = primary.put(1, 60.0, accepted=1.0)
    shadow.put(1, 60.1, of=again, mode="sync", accepted=1.0)
    assert counts(await check(primary, shadow)) == {ParityResult.MATCHED: 4}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"content": "altered"}, "the body differs"),
        ({"headers": {"traceparent": "00-" + "f" * 32 + "-" + "f" * 16 + "-01"}}, "a header"),
        ({"headers": {"correlationId": "another"}}, "a header"),
        ({"headers": {"contentType": "text/plain"}}, "a header"),
        ({"headers": {"messageId": "another"}}, "a header"),
        ({"conversation": "another"}, "the message"),
    ],
)
async def test_an_altered_copy_is_named_with_what_differs(change, detail: str) -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(2))
    shadow.put(2, 2.5, of=primary.put(2, 2.0), mode="sync", accepted=2.0, **change)
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.DIFFERENT_BYTES: 1}
    (sample,) = report.samples
    assert detail in sample.detail
    assert (sample.primary_offset, sample.shadow_offset) == ("2", "2")


async def test_headers_of_the_copy_alone_are_not_compared() -> None:
    primary, shadow = pair()
    shadow.put(0, 0.1, of=primary.put(0, 0.0), mode="async", accepted=0.0, headers={"x": "y"})
    assert counts(await check(primary, shadow)) == {ParityResult.MATCHED: 1}


async def exchanged(
    mode: str,
    *,
    accepted: float,
    second: str = "sync",
    late: float = 0.0,
    mirrored: float | None = None,
):
    """Message 1 stands before 2 in the primary (at 1.0 and 2.0) and after it in the shadow."""
    primary, shadow = pair()
    one = primary.put(1, 1.0, accepted=0.9)
    two = primary.put(2, 2.0, accepted=accepted)
    shadow.put(2, 2.1, of=two, mode=second, accepted=accepted)
    shadow.put(1, 2.2 + late, of=one, mode=mode, accepted=0.9)
    since = None if mirrored is None else EPOCH + mirrored
    return await check(primary, shadow, mirrored=since, limits=LATER)


async def test_an_exchanged_async_pair_differs_unless_the_clocks_show_an_overlap() -> None:
    report = await exchanged("async", accepted=1.9)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_DIFFERS: 1}
    assert report.totals.verdict is Verdict.DIFFERS
    (sample,) = report.samples
    assert sample.other == body_of(2, "c", 1.9).message_id
    assert (sample.primary_offset, sample.shadow_offset) == ("0", "1")
    overlapped = {ParityResult.MATCHED: 2, ParityResult.ORDER_OVERLAPPED: 1}
    assert counts(await exchanged("async", accepted=0.94)) == overlapped
    # Within the tolerance of the clocks nothing is shown.
    assert counts(await exchanged("async", accepted=0.96))[ParityResult.ORDER_DIFFERS] == 1


async def test_an_exchanged_sync_pair_shows_by_itself_that_its_requests_overlapped() -> None:
    report = await exchanged("sync", accepted=1.9)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_OVERLAPPED: 1}
    assert report.totals.verdict is Verdict.EQUAL


async def test_a_sync_copy_of_a_later_retry_shows_nothing() -> None:
    report = await exchanged("sync", accepted=1.9, late=31.0)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_DIFFERS: 1}


async def test_a_sync_copy_proves_an_overlap_however_late_if_every_process_mirrored() -> None:
    report = await exchanged("sync", accepted=1.9, late=31.0, mirrored=0.5)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_OVERLAPPED: 1}
    # The first was appended before that: it may have been acknowledged without the copy.
    report = await exchanged("sync", accepted=1.9, late=31.0, mirrored=1.5)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_DIFFERS: 1}
    report = await exchanged("async", accepted=1.9, mirrored=0.5)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_DIFFERS: 1}


async def test_a_backfilled_copy_stands_late_on_purpose() -> None:
    report = await exchanged("backfill", accepted=1.9)
    assert counts(report) == {ParityResult.MATCHED: 2, ParityResult.ORDER_BACKFILLED: 1}
    assert report.totals.verdict is Verdict.EQUAL


async def test_other_conversations_have_no_order_between_them() -> None:
    primary, shadow = pair()
    one, two = primary.put(1, 1.0, conversation="a"), primary.put(2, 2.0, conversation="b")
    shadow.put(2, 2.1, of=two, mode="async", conversation="b", accepted=2.0)
    shadow.put(1, 2.2, of=one, mode="async", conversation="a", accepted=1.0)
    assert counts(await check(primary, shadow)) == {ParityResult.MATCHED: 2}


async def test_a_copy_that_was_missed_and_comes_late_is_taken_back() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(2))
    late = primary.put(2, 2.0)
    mirrored(primary, shadow, range(3, 600))
    shadow.put(2, 601.0, of=late, mode="backfill", accepted=2.0)
    report = await check(primary, shadow, limits=ParityLimits(settle=5.0))
    assert report.partitions[0].repaired == 1
    found = counts(report)
    assert found.pop(ParityResult.ORDER_BACKFILLED) > 0  # it was passed while it was still young
    assert found == {ParityResult.MATCHED: 600}


async def test_what_the_other_log_has_trimmed_is_counted_as_not_comparable() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(20))
    primary.drop(0, *range(8))
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 12}
    # The other way round the originals are still there, and their copies are not.
    report = await check(shadow, primary)
    assert counts(report) == {ParityResult.MATCHED: 12}
    shadow.drop(0, *range(10))
    report = await check(primary, shadow)
    assert counts(report) == {ParityResult.MATCHED: 10, ParityResult.TRIMMED: 2}
    assert report.totals.coverage == 10 / 12


async def test_what_came_before_the_shadow_began_is_not_missing() -> None:
    primary, shadow = StillLog("redis", 2), StillLog("kafka", 2)
    for number in range(5):
        primary.put(number, number, partition=0)
        primary.put(number, number + 10, partition=1)
    shadow.put(4, 4.1, of="redis:4", mode="async", accepted=4.0, partition=0)
    report = await check(primary, shadow)
    # It began at 4.1 s, as one partition shows: what the other lacks after that is missing.
    assert counts(report) == {
        ParityResult.MATCHED: 1,
        ParityResult.TRIMMED: 4,
        ParityResult.MISSING_IN_SHADOW: 5,
    }


async def test_too_young_is_not_missing() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(3))
    primary.put(3, 3.0)
    now = time.time() - EPOCH
    primary.put(4, now)
    report = await check(primary, shadow)
    assert counts(report) == {
        ParityResult.MATCHED: 3,
        ParityResult.MISSING_IN_SHADOW: 1,
        ParityResult.NOT_YET_COMPARABLE: 1,
    }


async def test_a_window_judges_its_own_messages_only() -> None:
    primary, shadow = pair()
    mirrored(primary, shadow, range(100))
    shadow.drop(0, 10, 50, 90)
    report = await check(primary, shadow, since=EPOCH + 30, until=EPOCH + 69.5)
    assert counts(report) == {ParityResult.MATCHED: 39, ParityResult.MISSING_IN_SHADOW: 1}


async def test_roles_that_changed_midway_pair_exactly() -> None:
    """Phases 2, 4 and 5 in one history: originals on both sides, each with its copy."""
    redis, kafka = pair()
    mirrored(redis, kafka, range(10))
    for number in range(10, 20):  # some processes have changed already, and some not
        one, two = (redis, kafka) if number % 2 else (kafka, redis)
        of = one.put(number, number)
        two.put(number, number + 0.01, of=of, mode="sync", accepted=number)
    for number in range(20, 30):
        of = kafka.put(number, number)
        if number != 25:
            redis.put(number, number + 0.01, of=of, mode="sync", accepted=number)
    for primary, shadow, missing in (
        (redis, kafka, ParityResult.MISSING_IN_PRIMARY),
        (kafka, redis, ParityResult.MISSING_IN_SHADOW),
    ):
        assert counts(await check(primary, shadow)) == {ParityResult.MATCHED: 29, missing: 1}


async def test_a_copy_in_the_wrong_partition_is_missing_in_its_own() -> None:
    primary, shadow = StillLog("redis", 2), StillLog("kafka", 2)
    for number in range(4):
        of = primary.put(number, number, partition=0)
        shadow.put(number, number + 0.1, of=of, mode="sync", partition=int(number == 2))
    report = await check(primary, shadow)
    assert report.totals.counts[ParityResult.MISSING_IN_SHADOW] == 1
    assert report.totals.verdict is Verdict.DIFFERS
