"""Erasures beside failures: in a file of archived rows, and of content that was sent again."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from persistence.dead_letters.rows import insert as insert_letters
from persistence.errors import Outage
from persistence.retention.archiver import Archiver
from persistence.retention.archives import ArchiveTable
from persistence.retention.burial import Doomed, mark_erased
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.store.writer import insert
from tests.payloads.stores import folder_of, opened
from tests.payloads.test_rows import large
from tests.persistence.loglib import append
from tests.persistence.samples import PARTITIONS, message, placed, receipt
from tests.persistence.test_payload_audit import put, sweep
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


async def test_content_of_an_erased_message_is_swept_although_a_log_names_it(
    transport, database_pool, tmp_path
):
    """It was sent again after the erasure."""
    store, erased = opened(f"file://{tmp_path}/payloads"), large()
    kept = large(client="another's")
    for sent in (erased, kept):
        await put(store, sent)
        await append(transport, msgspec.structs.replace(sent, content=""))
    await mark_erased(database_pool, [Doomed(UUID(erased.message_id), datetime.now(UTC))])
    report = await sweep(database_pool, store, [transport])
    assert (report.set_aside, report.referenced, report.put_back) == (1, 1, 0)
    assert not (folder_of(store) / erased.payload.key).exists()
    assert (folder_of(store) / kept.payload.key).exists()
