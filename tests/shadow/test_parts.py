"""The parts of a mirror: bounds, breaker, and what the ledger of gaps keeps."""

from __future__ import annotations

import asyncio
import weakref

import msgspec
import pytest

from otel.metrics import Metrics
from otel.shadow_metrics import ShadowMetrics
from persistence.shadow_gaps import ShadowGaps, open_gaps
from tests.shadow.recording_observer import RecordingObserver
from tests.shadow.scripted_transport import ScriptedTransport, hang, lose_reply, refuse, work
from tests.support.eventually import eventually
from transport.conformance.envelopes import message, messages
from transport.contract import Appended, Topic
from transport.errors import AppendUnknown, TransportError
from transport.memory import MemoryTransport
from transport.redis.entry_ids import id_key
from transport.settings import TransportSettings
from transport.shadow.breaker import Breaker
from transport.shadow.copies import Copy
from transport.shadow.mirror import Mirror
from transport.shadow.outcomes import Drop
from transport.shadow.queue import Queue
from transport.shadow.transport import ShadowTransport


def _mirror(watch: RecordingObserver, behaviour, **changes) -> ShadowTransport:
    settings = TransportSettings(stream_partitions=2, **{"transport_shadow_flush_ms": 0, **changes})
    shadow = ScriptedTransport(MemoryTransport(settings), behaviour)
    mirror = Mirror(shadow, primary="memory", settings=settings, observer=watch, gaps=watch)
    return ShadowTransport(MemoryTransport(settings), mirror)


async def test_one_partitions_queue_is_full_while_anothers_has_room() -> None:
    watch = RecordingObserver()
    async with _mirror(watch, hang, transport_shadow_queue_records=10) as transport:
        await transport.publish(messages([str(i) for i in range(15)], partition=0, of=transport))
        await transport.publish(messages([str(i) for i in range(5)], partition=1, of=transport))
        await eventually(lambda: transport.mirror.status().waiting == 15)
        status = transport.mirror.status()
        assert [partition.waiting for partition in status.partitions] == [10, 5]
        assert status.partitions[0].dropped == {"queue_full": 5}
        # The first ten wait: what is dropped is what came last, one range.
        assert [offset for _, _, offset in watch.gaps] == [str(i) for i in range(10, 15)]
    assert watch.counts["dropped_closed"] == 15
    assert transport.mirror.status().waiting == 0


async def test_no_answer_waits_for_its_copy_to_be_put_in_the_queue() -> None:
    async with _mirror(RecordingObserver(), hang) as transport:
        sent = messages(["a", "b"], partition=0, of=transport)
        outcomes = await transport.publish(sent)  # this loop has not turned meanwhile
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert transport.mirror.status().waiting == 0
        await asyncio.sleep(0)
        assert transport.mirror.status().waiting == 2


async def test_a_process_that_stops_at_once_still_copies_what_it_answered() -> None:
    watch = RecordingObserver()
    async with _mirror(watch, work, transport_shadow_flush_ms=5000) as transport:
        await transport.publish(messages(["a", "b"], partition=0, of=transport))
    assert watch.counts == {"appended": 2}


async def test_waiting_copies_are_bounded_in_bytes() -> None:
    watch = RecordingObserver()
    limits = {"transport_shadow_queue_bytes": 1 << 20, "transport_shadow_queue_records": 1_000_000}
    async with _mirror(watch, hang, **limits) as transport:
        big = [message("x" * 100_000, partition=i % 2, of=transport) for i in range(20)]
        await transport.publish(big)
        await eventually(lambda: transport.mirror.status().waiting)
        status = transport.mirror.status()
        assert status.waiting_bytes <= 1 << 20
        assert 8 <= status.waiting <= 10
        assert watch.counts["dropped_queue_full"] == 20 - status.waiting


async def test_what_the_shadow_will_never_take_is_dropped_and_holds_up_nothing() -> None:
    async def picky(inner, envelopes, remember):
        outcomes = list(await inner.publish(envelopes, remember=remember))
        return [
            TransportError("too large") if b"large" in sent.body else outcome
            for sent, outcome in zip(envelopes, outcomes, strict=True)
        ]

    watch = RecordingObserver()
    async with _mirror(watch, picky) as transport:
        await transport.publish(messages(["a", "large", "b"], partition=0, of=transport))
        await eventually(lambda: watch.counts["appended"] == 2)
        assert transport.mirror.status().breaker == "closed"
    assert watch.counts == {"appended": 2, "failed": 1, "dropped_refused": 1}
    assert watch.gaps == [(0, "refused", "1")]


def test_one_copy_that_waits_keeps_none_of_those_that_passed_it() -> None:
    """A partition without a leader, while the others take what they get."""

    class Headers(dict[str, str]):
        """Can be referred to weakly."""

    queue, seen = Queue(2, records=10, size=1 << 20), []
    envelopes = MemoryTransport(TransportSettings(stream_partitions=2))
    for number in range(1000):
        sent = message(str(number), partition=min(number, 1), of=envelopes)
        headers = Headers(sent.headers)
        seen.append(weakref.ref(headers))
        replaced = msgspec.structs.replace(sent, headers=headers)
        copy = Copy(replaced, str(number), sent.partition)
        assert queue.put(copy)
        if number:
            queue.remove(copy)
        del headers, copy
    assert [copy.offset for copy in queue.all()] == ["0"]
    assert sum(reference() is not None for reference in seen) < 100


def _copies(*remembered: bool) -> list[Copy]:
    """Copies of one partition, which are to be remembered or not."""
    log = MemoryTransport(TransportSettings(stream_partitions=2))
    sent = [message(str(number), partition=0, of=log) for number in range(len(remembered))]
    return [Copy(it, "0", 0, remember) for it, remember in zip(sent, remembered, strict=True)]


def test_copies_of_a_partition_are_taken_in_order_whatever_is_remembered() -> None:
    """A call remembers all of its records or none, and a redrive is not remembered."""
    queue = Queue(2, records=10, size=1 << 20)
    copies = _copies(True, True, False, True)
    for copy in copies:
        assert queue.put(copy)
    for expected in (copies[:2], copies[2:3], copies[3:]):
        taken = queue.take(10)
        assert taken == expected
        for copy in taken:
            queue.remove(copy)


def test_a_copy_is_found_by_its_key_and_body_until_it_is_removed() -> None:
    queue = Queue(2, records=10, size=1 << 20)
    (first,) = _copies(True)
    another = msgspec.structs.replace(first.envelope, fingerprint="f" * 32)
    second = Copy(another, "1", 0)
    queue.put(first)
    assert queue.waiting(first.envelope) is first
    assert queue.waiting(another) is None
    queue.put(second)
    queue.remove(first)
    assert queue.waiting(another) is second
    queue.remove(second)
    assert queue.waiting(another) is None


async def test_two_bodies_under_one_key_are_two_copies() -> None:
    """Kafka remembers no keys. Which of the two is the row, the workers of each log find out."""

    async def forgetful(inner, envelopes, remember):
        return await inner.publish(envelopes, remember=False)

    settings = TransportSettings(stream_partitions=2, transport_shadow_mode="sync")
    shadow = ScriptedTransport(MemoryTransport(settings), forgetful)
    mirror = Mirror(shadow, primary="memory", settings=settings)
    async with ShadowTransport(
        ScriptedTransport(MemoryTransport(settings), forgetful), mirror
    ) as transport:
        first, other = messages(["first", "other"], partition=0, of=transport)
        forged = msgspec.structs.replace(other, message_id=first.message_id, fingerprint="f" * 32)
        sent = [first, forged, first]
        outcomes = await transport.publish(sent)
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        stands = await shadow.read(Topic.MESSAGES, 0)
        assert [record.body for record in stands] == [first.body, forged.body]


async def test_a_copy_that_the_sender_brought_meanwhile_is_not_offered_again() -> None:
    lost, calls = asyncio.Event(), 0

    async def scripted(inner, envelopes, remember):
        nonlocal calls
        calls += 1
        if calls == 1:
            return await refuse(inner, envelopes, remember)
        if calls == 2:  # the retry, of whose append no word comes
            await lost.wait()
            return await lose_reply(inner, envelopes, remember)
        return await inner.publish(envelopes, remember=remember)

    async with _mirror(RecordingObserver(), scripted, transport_shadow_mode="sync") as transport:
        sent = message("a", partition=0, of=transport)
        await transport.publish([sent])
        retry = asyncio.create_task(transport.publish([sent]))
        await eventually(lambda: not transport.mirror.status().waiting)
        lost.set()
        (outcome,) = await retry
        assert isinstance(outcome, AppendUnknown)
        assert transport.mirror.status().waiting == 0


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_fault_in_a_third_partys_transport_stays_there(mode: str) -> None:
    async def broken(inner, envelopes, remember):
        raise ZeroDivisionError

    watch = RecordingObserver()
    async with _mirror(watch, broken, transport_shadow_mode=mode) as transport:
        (outcome,) = await transport.publish([message("a", partition=0, of=transport)])
        assert isinstance(outcome, TransportError) is (mode == "sync")
        await eventually(lambda: watch.counts["unknown"] > 1)


async def test_a_shadow_that_never_answers_is_given_up() -> None:
    """By the mirror's own limit, whatever those of the transport are."""
    watch = RecordingObserver()
    limits = {"transport_shadow_mode": "sync", "transport_shadow_timeout_ms": 100}
    async with _mirror(watch, hang, **limits) as transport, asyncio.timeout(5):
        (outcome,) = await transport.publish([message("a", partition=0, of=transport)])
        assert isinstance(outcome, AppendUnknown)
        assert watch.counts["timed_out"] == 1


def test_the_breaker_opens_tries_once_and_closes() -> None:
    now, told = 0.0, []
    breaker = Breaker(told.append, clock=lambda: now)
    for _ in range(3):
        assert breaker.begin()
        breaker.failed()
    assert breaker.state == "open"
    assert not breaker.begin()
    breaker.failed()  # a call that was under way
    assert 0 < breaker.wait() <= 0.5
    now += 0.5
    assert breaker.begin()
    assert breaker.state == "half_open"
    assert not breaker.begin(), "one at a time"
    breaker.failed()
    assert 0.5 < breaker.wait() <= 1.0, "longer than the first time"
    now += 1.0
    assert breaker.begin()
    breaker.succeeded()
    assert breaker.begin()
    assert told == ["open", "half_open", "open", "half_open", "closed"]


async def test_an_open_breaker_spares_the_shadow() -> None:
    watch = RecordingObserver()
    async with _mirror(watch, refuse) as transport:
        await transport.publish([message("a", partition=0, of=transport)])
        await eventually(lambda: watch.states[-1:] == ["open"])
        shadow = transport.mirror.transport
        calls = shadow.calls  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
        assert shadow.calls == calls  # type: ignore[attr-defined]


async def test_a_shadow_that_may_be_down_is_tried_with_a_few_copies() -> None:
    """Hundreds in a call keep the process from its requests for milliseconds, for nothing."""
    sizes: dict[str, list[int]] = {"closed": [], "half_open": []}
    watch = RecordingObserver()

    async def refuse_and_note(inner, envelopes, remember):
        sizes[(watch.states or ["closed"])[-1]].append(len(envelopes))
        return await refuse(inner, envelopes, remember)

    async with _mirror(watch, refuse_and_note) as transport:
        await transport.publish(messages([str(i) for i in range(300)], partition=0, of=transport))
        await eventually(lambda: len(sizes["half_open"]) == 2)
        transport.mirror.transport.behaviour = work  # type: ignore[attr-defined]
        await eventually(lambda: transport.mirror.status().waiting == 0)
    assert sizes == {"closed": [300] * 3, "half_open": [10, 10]}
    assert watch.counts["appended"] == 300


async def test_every_outcome_is_a_metric_from_the_start(metrics: Metrics) -> None:
    value = metrics.registry.get_sample_value
    outcomes = (
        "appended", "remembered", "conflict", "failed", "unknown", "timed_out",
        "dropped_queue_full", "dropped_breaker_open", "dropped_refused", "dropped_closed",
        "dropped_primary_unknown",
    )  # fmt: skip
    for outcome in outcomes:
        assert value("shadow_publish_total", {"outcome": outcome}) == 0
    settings = TransportSettings(stream_partitions=2, transport_shadow_flush_ms=0)
    shadow = ScriptedTransport(MemoryTransport(settings), refuse)
    mirror = Mirror(shadow, primary="memory", settings=settings, observer=metrics.of(ShadowMetrics))
    async with ShadowTransport(MemoryTransport(settings), mirror) as transport:
        await transport.publish([message("a", partition=0, of=transport)])
        await eventually(lambda: value("shadow_breaker_state", {"state": "open"}) == 1)
        assert value("shadow_breaker_state", {"state": "closed"}) == 0
        assert value("shadow_queue_depth") == 1
        assert (value("shadow_queue_bytes") or 0) > 1000
        assert (value("shadow_queue_oldest_age_seconds") or 0) > 0
        assert value("shadow_publish_total", {"outcome": "failed"}) == 3
    assert value("shadow_publish_total", {"outcome": "dropped_closed"}) == 1


def _ledger(pool) -> ShadowGaps:
    return ShadowGaps(
        pool,
        transport="redis",
        shadow="kafka",
        sort_key=id_key,
        member="process-1",
    )


async def test_gaps_are_kept_as_ranges(database_pool) -> None:
    async with _ledger(database_pool) as gaps:
        for offset in ("10-0", "9-0", "11-0", "10-5"):  # as text, 9-0 would be the last
            gaps.note(3, Drop.QUEUE_FULL, offset)
        gaps.note(3, Drop.PRIMARY_UNKNOWN, None)
        gaps.note(4, Drop.QUEUE_FULL, "1-1")
    rows = await database_pool.fetch("SELECT * FROM shadow_gaps ORDER BY partition, kind")
    assert [
        (row["partition"], row["kind"], row["first_offset"], row["last_offset"], row["records"])
        for row in rows
    ] == [
        (3, "primary_unknown", None, None, 1),
        (3, "queue_full", "9-0", "11-0", 4),
        (4, "queue_full", "1-1", "1-1", 1),
    ]
    assert {(row["transport"], row["shadow"], row["noted_by"]) for row in rows} == {
        ("redis", "kafka", "process-1")
    }
    async with database_pool.acquire() as connection:
        assert await open_gaps(connection, "kafka") == {"primary_unknown": 1, "queue_full": 5}


@pytest.mark.parametrize("outage", [True, False], ids=["after-an-outage", "at-once"])
async def test_gaps_are_written_by_themselves(database_pool, outage: bool) -> None:
    async def written() -> int:
        return await database_pool.fetchval("SELECT coalesce(sum(records), 0) FROM shadow_gaps")

    async with _ledger(database_pool) as gaps:
        if outage:
            await database_pool.execute("ALTER TABLE shadow_gaps RENAME TO away")
        for i in range(4000):
            gaps.note(i % 4, Drop.BREAKER_OPEN, f"{i}-0")
        if outage:
            await asyncio.sleep(1.0)
        for i in range(4000, 5000):
            gaps.note(i % 4, Drop.BREAKER_OPEN, f"{i}-0")
        if outage:
            assert gaps.unwritten == 5000
            await database_pool.execute("ALTER TABLE away RENAME TO shadow_gaps")
        await eventually(lambda: not gaps.unwritten)
        assert await written() == 5000
        # A write that is under way takes no more, so what is noted meanwhile is a second range.
        rows = await database_pool.fetch(
            "SELECT partition, records, first_offset, last_offset FROM shadow_gaps"
            " ORDER BY partition, records DESC"
        )
        whole = [(p, 1250, f"{p}-0", f"{4996 + p}-0") for p in range(4)]
        halves = [
            part
            for p in range(4)
            for part in (
                (p, 1000, f"{p}-0", f"{3996 + p}-0"),
                (p, 250, f"{4000 + p}-0", f"{4996 + p}-0"),
            )
        ]
        assert [tuple(row) for row in rows] in (whole, halves)
