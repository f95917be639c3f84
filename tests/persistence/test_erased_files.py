"""An erasure that fails in the middle of a file of archived rows, and goes on."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime

import pytest

from persistence.dead_letters.rows import insert as insert_letters
from persistence.errors import Outage
from persistence.retention.archiver import Archiver
from persistence.retention.archives import ArchiveTable
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.store.writer import insert
from tests.payloads.stores import folder_of, opened
from tests.persistence.samples import PARTITIONS, message, placed, receipt
from transport.clock import timestamp
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.message.dead_letters import dead_letter_headers
from transport.message.envelope import Message, seal_receipt


def _letter_of_a_receipt(of: Message) -> Record:
    sealed = seal_receipt(receipt(of), partitions=PARTITIONS, traceparent=None)
    source = Record(Topic.MESSAGES, 0, "1-0", "", sealed.body, {}, 0.0)
    headers = dead_letter_headers(DeadLetter(source, Reason.REJECTED, "", 1, timestamp(0.0)))
    return Record(Topic.DEAD_LETTERS, 0, "1-0", "", sealed.body, headers, 0.0)


@pytest.mark.parametrize("fails", ["written", "took_out"])
async def test_an_erasure_that_fails_behind_a_rewritten_file_forgets_no_letter(
    database_pool, tmp_path, monkeypatch, fails
):
    """A receipt's letter names no sender: only the file told that its message was hers."""
    store, hers = opened(f"file://{tmp_path}/archive"), message("hers", sender="carol")
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(hers), placed(message("his"))])
        await insert_letters(connection, "redis", [_letter_of_a_receipt(hers)])
    archiver = Archiver(database_pool, store, days=30)
    await archiver.archive(asyncio.Event(), before=datetime.now(UTC))
    real, failures = getattr(ArchiveTable, fails), [Outage("PostgreSQL restarts")]

    async def restarts_once(*arguments, **more):
        if failures:
            raise failures.pop()
        await real(*arguments, **more)

    monkeypatch.setattr(ArchiveTable, fails, restarts_once)
    report = await Erasure(database_pool, Subject("sender", "carol"), [], None, store).run(by="me")
    assert (report.archived, report.letters) == (1, 1)
    assert await database_pool.fetchval("SELECT body FROM dead_letters") == b""
    (file,) = folder_of(store).rglob("*.jsonl.gz")
    assert b"carol" not in gzip.decompress(file.read_bytes())
    known = await database_pool.fetchrow("SELECT rows, bytes FROM row_archives")
    assert tuple(known) == (1, file.stat().st_size)
