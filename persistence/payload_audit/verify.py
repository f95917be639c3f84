"""Read the payload of every row, and compare its length and SHA-256 with the row's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

import asyncpg
import msgspec

from persistence.database.pool import Pool, using
from persistence.payload_audit.concurrency import for_each
from persistence.payloads.errors import PayloadCorrupt, PayloadMissing
from persistence.payloads.reading import verify as check
from persistence.payloads.store import PayloadStore
from transport.message.payload import sha256_in

__all__ = ["PayloadFault", "VerifyReport", "verify"]

_PAGE = 500

_ROWS = """
SELECT id, seq, payload_key, payload_bytes FROM messages
WHERE seq > $1 AND payload_key IS NOT NULL ORDER BY seq LIMIT $2
"""
_SAMPLE = """
SELECT id, seq, payload_key, payload_bytes FROM messages
WHERE payload_key IS NOT NULL ORDER BY random() LIMIT $1
"""


class PayloadFault(msgspec.Struct, frozen=True, rename="camel"):
    """A row whose payload has changed or is missing."""

    message_id: str
    key: str
    fault: Literal["missing", "corrupt"]
    detail: str


class VerifyReport(msgspec.Struct, rename="camel"):
    """The number of objects that were read, and their faults."""

    examined: int
    bytes: int
    faults: list[PayloadFault]


async def verify(
    pool: Pool,
    store: PayloadStore,
    *,
    sample: int | None = None,
    noted: Callable[[VerifyReport], object] = lambda _: None,
) -> VerifyReport:
    """Read payloads, several at once and never one whole in memory.

    Args:
        pool: of the database with the rows.
        store: the payload store.
        sample: how many rows to draw at random; ``None`` for every row.
        noted: called after each page of rows.

    Raises:
        Outage, PayloadOutage: PostgreSQL or the store can't answer.
    """
    report = VerifyReport(0, 0, [])
    async for rows in _pages(pool, sample):
        await for_each(rows, lambda row: _compare(row, store, report))
        noted(report)
    report.faults.sort(key=lambda fault: fault.message_id)
    return report


async def _pages(pool: Pool, sample: int | None) -> AsyncIterator[Sequence[asyncpg.Record]]:
    if sample is not None:
        async with using(pool) as connection:
            yield await connection.fetch(_SAMPLE, sample)
        return
    seq = 0
    while True:
        async with using(pool) as connection:
            rows = await connection.fetch(_ROWS, seq, _PAGE)
        if not rows:
            return
        yield rows
        seq = rows[-1]["seq"]


async def _compare(row: asyncpg.Record, store: PayloadStore, report: VerifyReport) -> None:
    key, size = row["payload_key"], row["payload_bytes"]
    try:
        await check(store, key, size, sha256_in(key))
    except PayloadMissing as error:
        report.faults.append(PayloadFault(str(row["id"]), key, "missing", str(error)))
    except PayloadCorrupt as error:
        report.faults.append(PayloadFault(str(row["id"]), key, "corrupt", str(error)))
    else:
        report.bytes += size
    report.examined += 1
