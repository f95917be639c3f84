"""Audit, sweep and verify with content in the payload store."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from persistence.audit.audit import audit
from persistence.audit.repair import repair
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.selection import Selection
from persistence.errors import Outage
from persistence.payload_audit import sweep as sweeping
from persistence.payload_audit.sweep import (
    DOOMED,
    LEAST_AGE,
    SweepReport,
    SweepUnderWay,
    TooMuchToSweep,
)
from persistence.payload_audit.sweep import sweep as sweep_slowly
from persistence.payload_audit.verify import verify
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.store import PayloadStore
from persistence.store.writer import Writer
from tests.payloads.stores import folder_of, opened
from tests.payloads.test_rows import large
from tests.persistence.loglib import append, lag
from tests.persistence.samples import message, placed
from transport.contract import DLQ_GROUP, Reason, Topic
from transport.message.envelope import Message

SHORT, LONG = "in the row " * 400, "alone " * 1500
"""4,400 bytes, and 9,000: the store of these tests has rows of 5,000."""
OLD = 3 * 3600


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    return opened(f"file://{tmp_path}/payloads", payload_row_bytes=5000)


async def sweep(pool, store: PayloadStore, logs=(), **options) -> SweepReport:
    return await sweep_slowly(pool, store, logs, last_look_after=0, **options)


@pytest.fixture
def persisted(start, transport, eventually, store):
    """Put content into the store, append messages, and have a worker deal with them."""

    async def persist(*messages: Message) -> None:
        for event in messages:
            if event.payload:
                await put(store, event)
        await append(transport, *messages)
        worker = start(payloads=store, stream_max_retries=1)

        async def done() -> bool:
            return await lag(transport) == 0

        await eventually(done)
        await worker.stop()

    return persist


async def put(store: PayloadStore, message: Message, *, age: float = OLD) -> Path:
    """Put a message's content into the store, written ``age`` seconds ago; return its file."""
    payload = message.payload
    assert payload is not None
    await store.put(payload.key, message.content.encode())
    return aged(folder_of(store) / payload.key, age)


def aged(path: Path, age: float = OLD) -> Path:
    then = time.time() - age
    os.utime(path, (then, then))
    return path


async def _contents(pool) -> list[str]:
    rows = await pool.fetch("SELECT content FROM messages ORDER BY client_message_id")
    return [row["content"] for row in rows]


async def test_an_audit_compares_payloads_by_their_digest_and_a_repair_keeps_their_rows(
    persisted, transport, database_pool
):
    await persisted(large(SHORT, "a"), large(LONG, "b"), message("c"))
    assert await _contents(database_pool) == [SHORT, "", "hello"]
    assert (await audit(database_pool, transport)).clean

    await database_pool.execute("UPDATE messages SET sender_id = 'another'")
    found = await audit(database_pool, transport)
    assert [list(difference.columns) for difference in found.differing] == [["sender_id"]] * 3
    await repair(database_pool, transport)
    assert await _contents(database_pool) == [SHORT, "", "hello"]

    await database_pool.execute("UPDATE messages SET content = 'damaged'")
    found = await audit(database_pool, transport)
    assert [list(difference.columns) for difference in found.differing] == [["content"]] * 3
    await repair(database_pool, transport)
    assert await _contents(database_pool) == ["", "", "hello"]  # the store has the other two
    assert (await audit(database_pool, transport)).clean

    await database_pool.execute("UPDATE messages SET payload_key = NULL, payload_bytes = NULL")
    assert len((await audit(database_pool, transport)).differing) == 2
    await repair(database_pool, transport)
    await database_pool.execute("DELETE FROM messages WHERE client_message_id = 'b'")
    assert len((await audit(database_pool, transport)).unaccounted) == 1
    await repair(database_pool, transport)
    assert (await audit(database_pool, transport)).clean
    keys = await database_pool.fetchval("SELECT count(payload_key) FROM messages")
    assert keys == 2


async def test_a_sweep_deletes_what_nothing_refers_to_and_only_that(
    persisted, start, transport, database_pool, store, eventually
):
    root = folder_of(store)
    row, refused, unread = large(SHORT, "a"), large(LONG, "b"), large("unread " * 900, "c")
    await persisted(row)
    (await put(store, refused)).unlink()  # a dead letter: its object comes back from a backup
    await append(transport, refused)
    worker = start(payloads=store, stream_max_retries=1)
    await eventually(lambda: _none_left(transport, Topic.MESSAGES))
    await worker.stop()
    await put(store, unread)
    await append(transport, unread)
    needed = [
        aged(root / str(row.payload_key)), await put(store, refused), root / str(unread.payload_key)
    ]  # fmt: skip

    orphan = await put(store, large("orphan " * 900, "d"))
    conflict = await put(store, large("another body " * 900, "a"))
    young = await put(store, large("young " * 900, "e"), age=60)
    waiting = [large("waiting " * 900, "f"), root / "uploading" / "1" / "x", root / "uploading/1/y"]
    waiting[1].parent.mkdir(parents=True)
    for path, age in ((waiting[1], 25 * 3600), (waiting[2], OLD)):
        path.write_bytes(b"half")
        aged(path, age)
    foreign = root / "someone" / "else"
    foreign.parent.mkdir()
    foreign.write_bytes(b"x")
    aged(foreign)

    everything = _files(root)
    told = await sweep(database_pool, store, [transport], dry_run=True)
    assert _files(root) == everything
    assert (told.set_aside, told.uploads, told.referenced) == (2, 1, 3)
    assert (told.young, told.foreign) == (2, 1)
    # The letter is in the dead-letter log alone until it is indexed.
    start(DeadLetterIndexer, member="i1")
    await eventually(lambda: _none_left(transport, Topic.DEAD_LETTERS, DLQ_GROUP))
    old_enough = await sweep(database_pool, store, [transport], older_than=timedelta(days=2))
    assert (old_enough.set_aside, old_enough.uploads, old_enough.young) == (0, 0, 8)
    done = await sweep(database_pool, store, [transport])
    assert (done.set_aside, done.uploads, done.put_back) == (2, 1, 0)
    assert everything - _files(root) == {orphan, conflict, waiting[1]}
    assert {*needed, young, waiting[2], foreign} <= _files(root)

    # Of a letter that was given up nothing is needed once no log has its record.
    await database_pool.execute("UPDATE dead_letters SET state = 'discarded'")
    assert (await sweep(database_pool, store, [transport])).set_aside == 0
    aged(root / str(unread.payload_key), 0)
    assert (await sweep(database_pool, store)).set_aside == 1


async def test_a_sweep_keeps_what_acknowledged_records_name(
    persisted, transport, database_pool, store
):
    """The database comes back from yesterday's backup: an audit restores rows from the log."""
    await persisted(large(SHORT, "a"), large(LONG, "b"))
    await database_pool.execute("DELETE FROM messages")
    for path in _files(folder_of(store)):
        aged(path)
    found = await sweep(database_pool, store, [transport])
    assert (found.set_aside, found.referenced) == (0, 2)
    await repair(database_pool, transport)
    assert (await verify(database_pool, store)).faults == []


async def test_an_object_that_is_not_older_than_every_unread_record_stays(
    transport, database_pool, store, monkeypatch
):
    """A record that waits since an hour may be the one that it was uploaded for."""
    orphan = await put(store, large(LONG), age=1.5 * 3600)
    await append(transport, message("waits"))
    read = transport.read

    async def read_as_of_an_hour_ago(*where, **how):
        records = await read(*where, **how)
        return [
            msgspec.structs.replace(record, appended_at=record.appended_at - 3600)
            for record in records
        ]

    monkeypatch.setattr(transport, "read", read_as_of_an_hour_ago)
    found = await sweep(database_pool, store, [transport])
    assert (found.set_aside, found.young) == (0, 1)
    monkeypatch.undo()
    assert (await sweep(database_pool, store, [transport])).set_aside == 1
    assert not orphan.exists()


@pytest.mark.parametrize(
    "count", [2000, pytest.param(100_000, marks=[pytest.mark.chaos, pytest.mark.timeout(900)])]
)
async def test_a_sweep_of_many_objects_takes_none_that_a_row_names(database_pool, store, count):
    """One of 20 is an orphan."""
    root, writer = folder_of(store), Writer(database_pool)
    needed, orphans = set[Path](), set[Path]()
    for start in range(0, count, 500):
        messages = [large("x" * 10, f"{n}") for n in range(start, start + 500)]
        for n, one in enumerate(messages):
            path = root / one.payload.key
            path.parent.mkdir()
            path.write_bytes(one.content.encode())
            (needed if n % 20 else orphans).add(aged(path))
        named = [placed(one) for n, one in enumerate(messages) if n % 20]
        await writer.write(named, None)
    found = await sweep(database_pool, store)
    assert (found.referenced, found.set_aside) == (len(needed), len(orphans))
    there = {path for path in _objects(root) if DOOMED not in path.parts}
    assert there == needed


async def test_a_sweep_and_a_look_at_all_rows_in_a_real_bucket(
    transport, database_pool, s3_settings, start, eventually, monkeypatch
):
    given = {name.lower(): value for name, value in s3_settings.items()}
    store = opened(given.pop("payload_store"), payload_row_bytes=5000, **given)
    short, long, orphan = large(SHORT, "a"), large(LONG, "b"), large("orphan " * 900, "c")
    for one in (short, long, orphan):
        await store.put(one.payload.key, one.content.encode())
    await append(transport, short, long)
    worker = start(payloads=store, stream_max_retries=1)
    await eventually(lambda: _none_left(transport, Topic.MESSAGES))
    await worker.stop()
    assert (await sweep(database_pool, store, [transport])).young == 3
    # A bucket dates its objects itself, and waiting for an hour is not possible here.
    monkeypatch.setattr(sweeping, "LEAST_AGE", -LEAST_AGE)
    done = await sweep(database_pool, store, [transport], older_than=-LEAST_AGE)
    assert (done.referenced, done.set_aside, done.deleted) == (2, 1, 1)
    left = {found.key async for page in store.objects() for found in page}
    assert left == {short.payload.key, long.payload.key}
    report = await verify(database_pool, store)
    assert (report.examined, report.faults) == (2, [])
    await store.delete([short.payload.key])
    await store.put(long.payload.key, long.content.upper().encode())
    report = await verify(database_pool, store)
    found = {(fault.message_id, fault.fault) for fault in report.faults}
    assert found == {(short.message_id, "missing"), (long.message_id, "corrupt")}


async def test_an_object_that_was_written_again_before_the_last_look_stays(
    transport, database_pool, store, monkeypatch
):
    """A POST that is sent again uploads the same bytes under the same key, then appends."""
    orphan = large(LONG)
    path = await put(store, orphan)
    head = store.head

    async def written_again(key: str):
        aged(path, 0)
        return await head(key)

    monkeypatch.setattr(store, "head", written_again)
    assert (await sweep(database_pool, store, [transport])).set_aside == 0
    assert path.exists()


async def test_an_object_that_is_erased_before_it_is_set_aside_ends_no_sweep(
    database_pool, store, monkeypatch
):
    path = await put(store, large(LONG))
    move = store.move

    async def erased_meanwhile(source: str, key: str, size: int) -> None:
        await store.delete([source])
        await move(source, key, size)

    monkeypatch.setattr(store, "move", erased_meanwhile)
    found = await sweep(database_pool, store)
    assert (found.examined, found.set_aside, found.bytes) == (1, 0, 0)
    assert not path.exists()


@pytest.mark.parametrize("first_sweep", [True, False])
async def test_a_post_that_is_sent_again_while_its_object_goes_gets_it_back(
    transport, database_pool, store, monkeypatch, first_sweep
):
    """It is written again after the last look, and its record comes after the object went."""
    again = large(LONG)
    path = await put(store, again)
    move = store.move

    async def written_again_meanwhile(source: str, key: str, size: int) -> None:
        await put(store, again)
        await move(source, key, size)
        if first_sweep:
            await append(transport, again)

    monkeypatch.setattr(store, "move", written_again_meanwhile)
    found = await sweep(database_pool, store, [transport])
    monkeypatch.undo()
    assert found.set_aside == 1
    if not first_sweep:
        assert not path.exists()
        await append(transport, again)
        found = await sweep(database_pool, store, [transport])
    assert (found.put_back, found.deleted) == (1, 0)
    assert path.read_bytes() == again.content.encode()
    assert not list((folder_of(store) / DOOMED).rglob("*/*/*/*"))


async def test_of_two_sweeps_at_once_the_second_is_refused(
    transport, database_pool, store, monkeypatch
):
    """The second would put the object back while the first is about to remove it."""
    again = large(LONG)
    path = await put(store, again)
    flush = store.flush

    async def sweep_meanwhile(key: str) -> None:
        await flush(key)  # it is copied, and not yet removed
        monkeypatch.undo()
        await append(transport, again)
        with pytest.raises(SweepUnderWay, match="run it later"):
            await sweep(database_pool, store, [transport])
        await sweep(database_pool, store, [transport], dry_run=True)

    monkeypatch.setattr(store, "flush", sweep_meanwhile)
    found = await sweep(database_pool, store, [transport])
    assert (found.set_aside, found.put_back) == (1, 1)
    assert path.read_bytes() == again.content.encode()


async def test_a_sweep_that_lost_its_lock_ends(database_pool, database_url, store, monkeypatch):
    """Another one may be under way from then on."""
    path = await put(store, large(LONG))
    flush = store.flush
    other = await asyncpg.connect(database_url)

    async def lose_it(key: str) -> None:
        await flush(key)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )

    monkeypatch.setattr(store, "flush", lose_it)
    with pytest.raises(Outage):
        await sweep(database_pool, store)
    await other.close()
    monkeypatch.undo()
    assert not path.exists()
    assert (await sweep(database_pool, store)).deleted == 0


async def test_what_was_set_aside_is_deleted_by_a_sweep_an_hour_later(
    database_pool, store, transport
):
    orphan, again = large(LONG, "a"), large(LONG, "b")
    await put(store, orphan)
    await put(store, again)
    assert (await sweep(database_pool, store, [transport])).set_aside == 2
    assert (await sweep(database_pool, store, [transport])).deleted == 0
    doomed = folder_of(store) / DOOMED
    for folder in doomed.iterdir():  # two, if a second began between them
        folder.rename(doomed / str(int(folder.name) - int(LEAST_AGE.total_seconds()) - 1))
    path = await put(store, again, age=0)
    await append(transport, again)
    told = await sweep(database_pool, store, [transport], dry_run=True)
    done = await sweep(database_pool, store, [transport])
    assert (told.deleted, told.put_back) == (done.deleted, done.put_back) == (1, 1)
    assert _objects(folder_of(store)) == {path}


async def test_a_sweep_removes_files_of_writes_that_never_ended(database_pool, store):
    root = folder_of(store)
    half = [root / "uploading" / "1" / f"{name}#1" for name in ("old", "young")]
    half[0].parent.mkdir(parents=True)
    for path, age in zip(half, (25 * 3600, OLD), strict=True):
        path.write_bytes(b"half")
        aged(path, age)
    assert (await sweep(database_pool, store)).uploads == 1
    assert [path.exists() for path in half] == [False, True]


async def test_a_sweep_that_would_delete_more_than_usual_is_refused(database_pool, store):
    root = folder_of(store)
    for number in range(101):
        path = root / str(large(LONG, str(number)).payload_key)
        path.parent.mkdir()
        path.write_bytes(b"x")
        aged(path)
    await put(store, large(SHORT, "young"), age=0)
    before = _files(root)
    with pytest.raises(TooMuchToSweep, match=r"101 of 102 objects.*--allow-many"):
        await sweep(database_pool, store)
    assert _files(root) == before
    assert (await sweep(database_pool, store, dry_run=True)).set_aside == 101
    assert (await sweep(database_pool, store, allow_many=True)).set_aside == 101


async def test_a_letter_is_redriven_when_its_object_is_back(
    persisted, start, transport, database_pool, store, metrics, eventually
):
    lost = large(SHORT, "a")
    (await put(store, lost)).unlink()
    await append(transport, lost)
    worker = start(payloads=store, stream_max_retries=1)
    await eventually(lambda: _none_left(transport, Topic.MESSAGES))
    start(DeadLetterIndexer, member="i1")
    await eventually(lambda: _none_left(transport, Topic.DEAD_LETTERS, DLQ_GROUP))
    letter = await database_pool.fetchrow("SELECT id, reason FROM dead_letters")
    assert letter["reason"] == Reason.PAYLOAD_MISSING
    await put(store, lost)
    redriver = Redriver(database_pool, transport, metrics)
    await redriver.wait(await redriver.start(Selection(ids=(letter["id"],)), by="test"))
    await eventually(lambda: database_pool.fetchval("SELECT count(*) FROM messages"))
    assert await _contents(database_pool) == [SHORT]
    await redriver.close()
    await worker.stop()


async def test_verify_lists_what_is_missing_or_damaged(persisted, database_pool, store):
    good, missing, damaged = large(SHORT, "a"), large(LONG, "b"), large("bytes " * 900, "c")
    await persisted(good, missing, damaged, message("d"))
    report = await verify(database_pool, store)
    assert (report.examined, report.faults) == (3, [])
    assert report.bytes == 4400 + 9000 + 5400
    (folder_of(store) / str(missing.payload_key)).unlink()
    (folder_of(store) / str(damaged.payload_key)).write_bytes(b"bytez " * 900)
    report = await verify(database_pool, store)
    found = {(fault.message_id, fault.fault) for fault in report.faults}
    assert found == {(missing.message_id, "missing"), (damaged.message_id, "corrupt")}
    assert (await verify(database_pool, store, sample=1)).examined == 1


async def test_verify_tells_of_an_outage_as_such(persisted, database_pool, store):
    await persisted(large(SHORT, "a"), large(LONG, "b"))
    root = folder_of(store)
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    with pytest.raises(PayloadOutage, match="mounted"):
        await verify(database_pool, store)


async def _none_left(transport, topic, group=None) -> bool:
    progress = await transport.progress(topic, group=group or "persistence-workers")
    return sum(part.lag for part in progress) == 0


def _files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def _objects(root: Path) -> set[Path]:
    return {path for path in _files(root) if not path.name.startswith(".")}
