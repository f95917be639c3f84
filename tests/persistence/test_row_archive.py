"""Old rows go to files: none is lost or archived twice, whatever ends it in the middle."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from structlog.testing import capture_logs

from otel.metrics import Metrics
from persistence.database.pool import connect
from persistence.errors import Outage, Unexpected
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.opening import open_archive
from persistence.payloads.settings import PayloadSettings
from persistence.retention import archiver as archiver_module
from persistence.retention.archive_file import ArchiveDamaged, ArchiveDraft
from persistence.retention.archiver import Archiver, OldRows
from persistence.retention.archives import ArchiveTable
from persistence.retention.erasure import Erasure
from persistence.retention.metrics import ArchiveMetrics
from persistence.retention.rows import count_rows
from persistence.retention.subject import Subject
from persistence.settings import PersistenceSettings
from persistence.store.lookup import answers
from persistence.store.reserved_connections import ReservedConnections
from persistence.store.writer import insert
from tests.payloads.stores import folder_of, opened
from tests.persistence.samples import message, placed, receipt
from tests.support.metric_values import value_of


@pytest.fixture
def store(tmp_path):
    return opened(f"file://{tmp_path}/archive")


@pytest.fixture
async def sent(database_pool):
    """Seven old rows, the first with a receipt, and a young one."""
    old = [message(str(number)) for number in range(7)]
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(event) for event in old])
        await insert(connection, [placed(receipt(old[0]))])
        await connection.execute("UPDATE messages SET created_at = now() - interval '40 days'")
        await insert(connection, [placed(message("young"))])
    return old


_SLOW = """
SELECT count(*) = 3 FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND now() - query_start > interval '0.3 s'
    AND datname = current_database()
"""
_ENDED = (RuntimeError, Unexpected)
"""What comes of the test's error, also out of a connection."""


def archived(store) -> list[dict]:
    """Every document in every file."""
    files = sorted(folder_of(store).rglob("*.jsonl.gz"))
    return [json.loads(line) for file in files for line in gzip.open(file)]


async def archive(pool, store, **more):
    return await Archiver(pool, store, days=30, rows=3, **more).archive(asyncio.Event())


async def rows(pool) -> list[str]:
    found = await pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
    return [row["client_message_id"] for row in found]


async def complete(pool, store, sent) -> None:
    """Fail unless each old row is in one file, once, and the young one is a row."""
    assert sorted(row["id"] for row in archived(store)) == sorted(
        message.message_id for message in sent
    )
    assert await rows(pool) == ["young"]
    assert await pool.fetchval("SELECT count(*) FROM tombstones WHERE archive IS NOT NULL") == 7
    assert await pool.fetchval("SELECT count(*) FROM row_archives WHERE state <> 'done'") == 0


async def test_old_rows_go_to_files_with_their_receipts(database_pool, store, sent):
    table = ArchiveTable(database_pool)
    assert await table.count(30, within=10) == 7
    report = await archive(database_pool, store)
    assert (report.rows, report.files) == (7, 3)
    await complete(database_pool, store, sent)
    first = next(row for row in archived(store) if row["id"] == sent[0].message_id)
    assert first["content"] == sent[0].content
    assert [receipt["user_id"] for receipt in first["receipts"]] == ["bob"]
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 0
    again = await archive(database_pool, store)
    assert (again.rows, again.files) == (0, 0)


async def test_a_key_that_was_archived_has_its_answer_and_makes_no_row(database_pool, store, sent):
    await archive(database_pool, store)
    connections = ReservedConnections(database_pool, most=1)
    found = await answers(connections, [sent[1].message_id], within=5)
    await connections.close()
    answer = found[sent[1].message_id]
    assert (answer.state, answer.accepted_at) == ("archived", sent[1].accepted_at)
    assert (answer.fingerprint, answer.correlation_id) == (sent[1].fingerprint(), "corr-1")
    async with database_pool.acquire() as connection:
        again = await insert(
            connection,
            [placed(sent[1]), placed(message("2", content="another")), placed(receipt(sent[0]))],
        )
    assert (again.persisted, again.duplicates, again.conflicts) == ([], [0, 2], [1])
    assert await rows(database_pool) == ["young"]


@pytest.mark.parametrize("step", ["writers_ended", "store", "written", "delete_rows", "done"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_it_goes_on_where_it_ended(database_pool, store, sent, monkeypatch, step, when):
    owner = {"store": ArchiveDraft, "written": ArchiveTable, "done": ArchiveTable}.get(
        step, archiver_module
    )
    real = getattr(owner, step)

    async def ends(*arguments, **more):
        if when == "after":
            await real(*arguments, **more)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, ends)
        with pytest.raises(_ENDED):
            await archive(database_pool, store)
    held = set(await rows(database_pool)) | {row["client_message_id"] for row in archived(store)}
    assert held == {*map(str, range(7)), "young"}  # nothing is lost
    await archive(database_pool, store)
    await complete(database_pool, store, sent)


async def test_a_file_that_was_damaged_takes_no_row_along(database_pool, store, sent, monkeypatch):
    async def ends(*_arguments, **_more):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(archiver_module, "delete_rows", ends)
        with pytest.raises(_ENDED):
            await archive(database_pool, store)
    (file,) = folder_of(store).rglob("*.jsonl.gz")
    file.write_bytes(gzip.compress(b""))
    with pytest.raises(ArchiveDamaged, match="still in PostgreSQL"):
        await archive(database_pool, store)
    assert len(await rows(database_pool)) == 8


async def test_an_erasure_reaches_into_files(database_pool, store, sent):
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(message("hers", sender="carol"))])
        await connection.execute(
            "UPDATE messages SET created_at = now() - interval '40 days' WHERE sender_id = 'carol'"
        )
    await archive(database_pool, store)
    assert "carol" in {row["sender_id"] for row in archived(store)}
    erasure = Erasure(database_pool, Subject("sender", "carol"), [], None, store)
    report = await erasure.run(by="me")
    assert report.archived == 1
    assert {row["sender_id"] for row in archived(store)} == {"alice"}
    await complete(database_pool, store, sent)
    found = await database_pool.fetchrow(
        "SELECT erased_at, fingerprint FROM tombstones WHERE archive IS NULL"
    )
    assert found["erased_at"] is not None
    assert found["fingerprint"] is None


async def _carols(pool, store, *, archive_them: bool = True) -> Erasure:
    """Put a message of carol's into a file; return the erasure of hers."""
    async with pool.acquire() as connection:
        await insert(connection, [placed(message("hers", sender="carol"))])
        await connection.execute(
            "UPDATE messages SET created_at = now() - interval '40 days' WHERE sender_id = 'carol'"
        )
    if archive_them:
        await archive(pool, store)
    return Erasure(pool, Subject("sender", "carol"), [], None, store)


def _file_with(store, sender: str):
    files = sorted(folder_of(store).rglob("*.jsonl.gz"))
    return next(file for file in files if sender.encode() in gzip.open(file).read())


@pytest.mark.parametrize("damage", ["cut", "fewer rows", "no gzip"])
async def test_an_erasure_leaves_a_damaged_file_as_it_is(database_pool, store, sent, damage):
    erasure = await _carols(database_pool, store)
    file = _file_with(store, "carol")
    whole = file.read_bytes()
    hers = next(line for line in gzip.decompress(whole).splitlines(True) if b"carol" in line)
    damaged = {
        "cut": whole[:-20], "fewer rows": gzip.compress(hers), "no gzip": b"<html>" * 99,
    }[damage]  # fmt: skip
    file.write_bytes(damaged)
    with pytest.raises(ArchiveDamaged):
        await erasure.run(by="me")
    assert file.read_bytes() == damaged
    file.write_bytes(whole)  # an operator puts the right version back, and runs it again
    assert (await erasure.run(by="me")).archived == 1
    assert {row["sender_id"] for row in archived(store)} == {"alice"}


async def test_an_erasure_looks_into_every_file_that_is_there(database_pool, store, sent):
    await archive(database_pool, store)
    min(folder_of(store).rglob("*.jsonl.gz")).unlink()  # a bucket's lifecycle rule
    erasure = await _carols(database_pool, store)
    report = await erasure.run(by="me")
    assert (report.archived, report.unread, report.state) == (1, 1, "done")
    assert "carol" not in {row["sender_id"] for row in archived(store)}


async def test_an_erasure_takes_the_file_that_a_crash_left(database_pool, store, monkeypatch):
    async def ends(*_arguments, **_more):
        raise RuntimeError("killed")

    erasure = await _carols(database_pool, store, archive_them=False)
    with monkeypatch.context() as patched:
        patched.setattr(ArchiveTable, "written", ends)
        with pytest.raises(_ENDED):
            await archive(database_pool, store)
    assert "carol" in {row["sender_id"] for row in archived(store)}
    await erasure.run(by="me")
    assert archived(store) == []


async def test_archiving_goes_on_after_an_erasure_was_killed_in_a_file(
    database_pool, store, sent, monkeypatch
):
    async def ends(*_arguments, **_more):
        raise RuntimeError("killed")

    erasure = await _carols(database_pool, store, archive_them=False)
    with monkeypatch.context() as patched:
        patched.setattr(archiver_module, "delete_rows", ends)
        with pytest.raises(_ENDED):
            await Archiver(database_pool, store, days=30).archive(asyncio.Event())
    with monkeypatch.context() as patched:
        patched.setattr(ArchiveTable, "written", ends)
        with pytest.raises(_ENDED):
            await erasure.run(by="me")
    await Archiver(database_pool, store, days=30).archive(asyncio.Event())
    assert await database_pool.fetchval("SELECT state FROM row_archives") == "done"
    await erasure.run(by="me")
    assert len(archived(store)) == 7
    assert await rows(database_pool) == ["young"]


async def test_a_file_is_not_replaced_by_one_with_fewer_rows(
    database_pool, store, sent, monkeypatch
):
    other, real = Archiver(database_pool, store, days=30), archiver_module.writers_ended

    async def suspended(pool):
        """As where the lock's session is lost: another process archives the same rows meanwhile."""
        monkeypatch.setattr(archiver_module, "writers_ended", real)
        monkeypatch.setattr(archiver_module, "ARCHIVING", "as if the lock were free")
        assert (await other.archive(asyncio.Event())).rows == 7

    monkeypatch.setattr(archiver_module, "writers_ended", suspended)
    with pytest.raises(Outage, match="rows of the archive"):
        await Archiver(database_pool, store, days=30).archive(asyncio.Event())
    assert len(archived(store)) == 7
    assert await rows(database_pool) == ["young"]


_END_THE_LOCK = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND objid = hashtext($1)::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def test_a_file_that_is_sent_after_an_erasure_is_written_again(
    database_pool, store, monkeypatch
):
    """The lock is lost while the file is sent; an erasure then takes it, and does not wait."""
    erasure = await _carols(database_pool, store, archive_them=False)
    real = ArchiveDraft.store

    async def slow(*arguments):
        assert await database_pool.fetchval(_END_THE_LOCK, archiver_module.ARCHIVING)
        assert (await erasure.run(by="me")).rows == 1
        return await real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ArchiveDraft, "store", slow)
        with pytest.raises(Outage, match="somebody ended the session"):
            await archive(database_pool, store)
    await archive(database_pool, store)
    assert "carol" not in {row["sender_id"] for row in archived(store)}


async def test_what_comes_of_age_meanwhile_is_left_for_the_next_pass(
    database_pool, store, sent, monkeypatch, eventually
):
    """Under load something always does: a pass would never end, and write a file a second."""
    of_age = "SELECT bool_and(created_at < now() - interval '30 days') FROM messages"
    real = archiver_module.writers_ended

    async def slow(pool):
        await eventually(lambda: pool.fetchval(of_age))
        await real(pool)

    monkeypatch.setattr(archiver_module, "writers_ended", slow)
    await database_pool.execute(
        "UPDATE messages SET created_at = now() - interval '30 days' + interval '3 s'"
        " WHERE client_message_id = 'young'"
    )
    archiver = Archiver(database_pool, store, days=30)
    assert (await archiver.archive(asyncio.Event())).rows == 7
    assert await rows(database_pool) == ["young"]
    assert (await archiver.archive(asyncio.Event())).rows == 1


async def test_a_full_disk_does_not_end_the_service(
    database_pool, store, sent, monkeypatch, eventually
):
    stop = asyncio.Event()
    failed = list[str]()

    def full(*_arguments):
        failed.append("full")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archiver_module, "draft", full)
    metrics = Metrics()
    job = OldRows(Archiver(database_pool, store, days=30), metrics, interval=0.05)
    with capture_logs() as logs:
        running = asyncio.create_task(job.run(stop))
        await eventually(lambda: logs or running.done())
    assert logs[0]["exc_info"], "nobody thought of it: where it was raised is needed"
    waits = metrics.of(ArchiveMetrics).oldest

    async def twice() -> bool:
        return running.done() or (len(failed) > 1 and value_of(waits) > 0)

    await eventually(twice)
    assert len(await rows(database_pool)) == 8
    monkeypatch.undo()
    await eventually(lambda: value_of(waits) == 0)
    stop.set()
    await running
    assert value_of(metrics.of(ArchiveMetrics).archived) == 7
    assert await rows(database_pool) == ["young"]


async def test_an_erasure_tells_of_files_that_a_restored_database_does_not_know(
    database_pool, store, sent
):
    await archive(database_pool, store)
    erasure = await _carols(database_pool, store)
    known = await database_pool.fetchval("SELECT max(name) FROM row_archives")
    whole = folder_of(store) / known
    whole.with_name("000000000999.jsonl.gz").write_bytes(whole.read_bytes())
    report = await erasure.run(by="me")
    assert (report.archived, report.unlisted) == (1, 1)


async def test_another_store_takes_no_rows(database_pool, tmp_path, sent):
    """Such as a folder whose disk is not mounted, or one of another machine's."""

    def archive_in(name: str):
        return open_archive(f"file://{tmp_path}/{name}", PayloadSettings(), Metrics())

    await archive(database_pool, archive_in("first"))
    erasure = await _carols(database_pool, archive_in("second"), archive_them=False)
    with pytest.raises(PayloadOutage, match=r"ROWS_ARCHIVE_URL.*forget-log rows-archive"):
        await archive(database_pool, archive_in("second"))
    assert await rows(database_pool) == ["young", "hers"]
    with pytest.raises(PayloadOutage, match="archived rows"):
        await erasure.run(by="me")


async def test_what_reads_the_whole_table_has_its_time(
    database_url, database_pool, store, sent, eventually
):
    hurried = await connect(
        PersistenceSettings(database_url=database_url, database_timeout_seconds=0.1)
    )
    table, subject = ArchiveTable(hurried), Subject("sender", "alice")

    async def count() -> int:
        async with hurried.acquire() as connection:
            return await count_rows(connection, subject, within=60)

    async with database_pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            asked = [
                asyncio.create_task(work)
                for work in (
                    table.count(30, within=60),
                    table.plan(await table.cutoff(30), 10),
                    count(),
                )
            ]
            await eventually(lambda: database_pool.fetchval(_SLOW))
        assert await asyncio.gather(*asked) == [7, True, 8]
    await hurried.close()


async def test_one_process_archives_each_hour(database_pool, store, sent, eventually):
    stop, counted = asyncio.Event(), [Metrics(), Metrics()]
    jobs = [
        OldRows(Archiver(database_pool, store, days=30, rows=3), metrics, interval=0.05)
        for metrics in counted
    ]
    running = [asyncio.create_task(job.run(stop)) for job in jobs]

    async def young_alone() -> bool:
        return await rows(database_pool) == ["young"]

    await eventually(young_alone)
    stop.set()
    await asyncio.gather(*running)
    await complete(database_pool, store, sent)
    assert sum(value_of(metrics.of(ArchiveMetrics).archived) for metrics in counted) == 7
