"""Measures the table at several sizes: rows per second, a tick's look-up, bytes per row.

SQL makes the rows. Their ids begin with the hash of their conversation, as the service's do, so the
pages of an index have realistic contents.

Up to a million rows the indexes grow with the table, as in production. Larger tables would take
days that way, since each row changes a page of each index: their B-trees are rebuilt after the rows
were inserted. A rebuilt index is 90 % full, a grown one a half to two thirds (ids come in no order,
keys and conversations in runs). So a rebuilt index has a third fewer bytes per row (109 in all,
instead of 150 to 170), and more of it stays in memory; its first new rows split about as many
pages. A restored dump or a REINDEX gives the same, and the definitions are those of the migrations.
For the bytes per row of an index, use the smaller sizes.

A separate table measures rows that go to pages which a deletion freed, as after archiving.
"""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from datetime import UTC, datetime

import asyncpg
import msgspec
from rich.progress import track

from lab.bench.figure import Compared, Figure, Limit
from lab.bench.load.job import percentile
from lab.bench.plan import Plan
from lab.bench.stand import Stand
from persistence.database.pool import Pool, connect
from persistence.settings import PersistenceSettings
from persistence.store.batch import PositionedEvent
from persistence.store.lookup import answers
from persistence.store.reserved_connections import ReservedConnections
from persistence.store.writer import insert
from transport.message.envelope import Message

__all__ = ["AtSize", "figures_of", "fill", "filled", "measure", "measure_at"]

_A_CONVERSATION = 100
"""Number of rows per conversation."""
_BATCH = 500
_BATCHES = 40
_ROUND = _BATCH * _BATCHES
"""Number of rows per round."""
_LOOKED_UP = 64  # ids in one tick
_KNOWN = 32  # ids of these that have rows
_LOOK_UPS = 1_000
_CHUNK = 1_000_000
_BUILT_FROM = 10_000_000
"""From this number of rows on, indexes are rebuilt and not grown."""
_BUILD_MEMORY = "1GB"
_WITHIN = 30.0
_LONGEST = 7200.0
_FILL = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id, 'before:' || n, id::text, 'before-' || n % $3, 'before', n::text, '{reader}',
    repeat('x', 64), 'text', own, now(), 'redis', n % 16, '0-' || n
FROM (
    SELECT n, own, (left(md5('before-' || n % $3), 8) || right(own, 24))::uuid AS id
    FROM (SELECT n, md5(n::text) AS own FROM generate_series($1::bigint, $2) AS n OFFSET 0) AS h
    OFFSET 0  -- or each hash is computed again wherever it is used
) AS made
"""
# Marks the B-trees as CREATE INDEX CONCURRENTLY marks an incomplete index: inserts skip them until
# REINDEX rebuilds them. BRIN indexes stay, since they cost an insert almost nothing.
_SUSPEND = """
UPDATE pg_index SET indisready = false, indisvalid = false
FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE indrelid = 'messages'::regclass AND indexrelid = pg_class.oid AND amname = 'btree'
RETURNING indexrelid::regclass::text
"""
_PAGES = "SELECT pg_relation_size('messages') / current_setting('block_size')::int"
_SIZES = """
SELECT pg_table_size('messages')::float8 AS rows, pg_indexes_size('messages')::float8 AS indexes,
    (SELECT count(*)::float8 FROM messages) AS count
"""


# Deletes the oldest rows, as archiving does.
_FREE = """
DELETE FROM messages WHERE seq <= (
    SELECT seq FROM messages ORDER BY seq OFFSET $1 LIMIT 1
)
"""


class AtSize(msgspec.Struct, kw_only=True):
    """The measurements at one size of the table."""

    rows: int
    inserted: list[float]
    """Rows per second, by round."""
    look_up: list[float]
    """Latencies of look-ups in milliseconds, ascending."""
    row_bytes: float = 0.0
    index_bytes: float = 0.0


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Fill one table step by step; measure insert and look-up at each size."""
    url = await stand.database()
    pool = await connect(PersistenceSettings(database_url=url))
    conversations = plan.table_sizes[-1] // _A_CONVERSATION
    found: list[AtSize] = []
    there = 0
    # A separate connection: the service's connections have a time limit that is too short for this.
    connection = await asyncpg.connect(url)
    try:
        for size in plan.table_sizes:
            built = size >= _BUILT_FROM
            await fill(connection, there, size, conversations, build_indexes=built)
            measured = await measure_at(pool, size, conversations, plan.runs)
            table, indexes, rows = await connection.fetchrow(_SIZES, timeout=_LONGEST)
            measured.row_bytes, measured.index_bytes = table / rows, indexes / rows
            found.append(measured)
            there = size
    finally:
        await connection.close()
        await pool.close()
    figures = [figure for measured in found for figure in figures_of(measured, found[0])]
    return [*figures, await _freed(stand, plan)]


async def _freed(stand: Stand, plan: Plan) -> Figure:
    """Compare rows in freed pages with rows in new ones."""
    url = await stand.database()
    pool = await connect(PersistenceSettings(database_url=url))
    connection = await asyncpg.connect(url)
    rounds = plan.runs + 1
    try:
        size = max(plan.table_sizes[0], 2 * rounds * _ROUND)
        await fill(connection, 0, size, size // _A_CONVERSATION, build_indexes=False)
        new = [await _insert(pool, uuid.uuid4().hex[:8]) for _ in range(rounds)]
        # Free space for a tenth more rows than are inserted.
        await connection.execute(_FREE, rounds * _ROUND * 11 // 10, timeout=_LONGEST)
        await connection.execute("VACUUM (ANALYZE) messages", timeout=_LONGEST)
        pages = await connection.fetchval(_PAGES)
        freed = [await _insert(pool, uuid.uuid4().hex[:8]) for _ in range(rounds)]
        grown = await connection.fetchval(_PAGES) - pages
    finally:
        await connection.close()
        await pool.close()
    return Compared(
        name=f"insert of {_BATCH} into pages that a deletion freed",
        unit="rows/s",
        ours=freed[1:],
        baseline_name="new pages",
        baseline=new[1:],
        target=0.8,
        details={"new_pages": float(grown)},
    )


async def fill(
    connection: asyncpg.Connection,
    there: int,
    size: int,
    conversations: int,
    *,
    build_indexes: bool,
) -> None:
    """Add the rows from ``there`` to ``size``.

    Args:
        connection: A session of the server's superuser.
        there: Number of rows in the table.
        size: Number of rows afterwards.
        conversations: Number of conversations of all rows.
        build_indexes: Rebuild the B-trees after the inserts, instead of growing them.
    """
    suspended = await connection.fetch(_SUSPEND) if build_indexes else []
    for begin in track(range(there, size, _CHUNK), f"rows up to {size:,}"):
        end = min(size, begin + _CHUNK)
        await connection.execute(_FILL, begin + 1, end, conversations, timeout=_LONGEST)
        if suspended:  # vacuum now, while the pages are in memory
            await connection.execute("VACUUM messages", timeout=_LONGEST)
    await _build(connection, [index for (index,) in suspended])
    # Bring the table into the state of one that grew over months.
    await connection.execute("VACUUM (ANALYZE) messages", timeout=_LONGEST)
    await connection.execute("CHECKPOINT", timeout=_LONGEST)


async def _build(connection: asyncpg.Connection, indexes: list[str]) -> None:
    await connection.execute(f"SET maintenance_work_mem = '{_BUILD_MEMORY}'")
    for index in track(indexes, "indexes", disable=not indexes):
        await connection.execute(f"REINDEX INDEX {index}", timeout=_LONGEST)


async def measure_at(pool: Pool, size: int, conversations: int, runs: int) -> AtSize:
    """Measure inserts into a table of ``size`` rows, and look-ups of its rows."""
    dice = random.Random(size)
    once = uuid.uuid4().hex[:8]  # makes keys unique, so that a table can be measured again
    inserted: list[float] = []
    took: list[float] = []
    reserved = ReservedConnections(pool, most=1)
    try:
        for turn in range(runs + 1):
            rate = await _insert(pool, f"{once}-{turn}")
            looked = await _look_up(reserved, dice, size, conversations)
            if turn:  # the first turn warms caches and plans
                inserted.append(rate)
                took += looked
    finally:
        await reserved.close()
    return AtSize(rows=size, inserted=inserted, look_up=sorted(took))


async def _insert(pool: Pool, run: str) -> float:
    """Insert batches with the worker's statement; return rows per second."""
    batches = [[_placed(run, at * _BATCH + n) for n in range(_BATCH)] for at in range(_BATCHES)]
    async with pool.acquire() as connection:
        began = time.perf_counter()
        for batch in batches:
            await insert(connection, batch)
        return _ROUND / (time.perf_counter() - began)


def _placed(run: str, number: int) -> PositionedEvent:
    conversation = f"{run}-{number % (_ROUND // _A_CONVERSATION)}"
    identifier = str(uuid.UUID(_md5(conversation)[:8] + uuid.uuid4().hex[8:]))
    message = Message(
        message_id=identifier,
        idempotency_key=f"{run}:{number}",
        correlation_id=identifier,
        conversation_id=conversation,
        sender_id="sender",
        client_message_id=str(number),
        recipient_ids=("reader",),
        content="x" * 64,
        content_type="text",
        accepted_at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    )
    return PositionedEvent(message, "redis", number % 16, f"{run}-{number}", None)


async def _look_up(
    reserved: ReservedConnections, dice: random.Random, size: int, conversations: int
) -> list[float]:
    """Look up the ids of ticks, half of which have rows; return the latencies in milliseconds."""
    took = []
    for _ in range(_LOOK_UPS):
        known = [filled(dice.randrange(1, size + 1), conversations) for _ in range(_KNOWN)]
        asked = [*known, *(str(uuid.uuid4()) for _ in range(_LOOKED_UP - _KNOWN))]
        began = time.perf_counter()
        found = await answers(reserved, asked, within=_WITHIN)
        took.append((time.perf_counter() - began) * 1000)
        assert len(found) == len(set(known)), "the ids are not those of the rows"
    return took


def filled(number: int, conversations: int) -> str:
    """Return the id of the row with this number that ``fill`` made."""
    home = _md5(f"before-{number % conversations}")[:8]
    return str(uuid.UUID(home + _md5(str(number))[-24:]))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def figures_of(one: AtSize, smallest: AtSize) -> list[Figure]:
    """Return figures that compare one size with the smallest size."""
    rows = f"{one.rows:,} rows in the table"
    p99, base = percentile(one.look_up, 0.99), percentile(smallest.look_up, 0.99)
    return [
        Compared(
            name=f"insert of {_BATCH}, {rows}",
            unit="rows/s",
            ours=one.inserted,
            baseline_name=f"{smallest.rows:,} rows",
            baseline=smallest.inserted,
            target=0.8,
            details={
                "table_bytes_a_row": round(one.row_bytes, 1),
                "index_bytes_a_row": round(one.index_bytes, 1),
            },
        ),
        Limit(
            name=f"look-up of {_LOOKED_UP} ids, {rows}: p99 over that of {smallest.rows:,} rows",
            unit="x",
            values=[p99 / base],
            limit=1.2,
            details={
                "p50_ms": round(percentile(one.look_up, 0.5), 3),
                "p99_ms": round(p99, 3),
                "look_ups": float(len(one.look_up)),
            },
        ),
    ]
