"""What the locks, the fence and the verdicts cost: the writer beside a bare unnest insert."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from persistence.store.columns import columns
from tests.persistence.samples import message, placed

ROWS, BATCHES = 500, 20
FEWEST_ROUNDS, MOST_ROUNDS = 3, 15

BARE = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset, attempts, trace_id, payload_key)
SELECT id, key, correlation_id, conversation_id, sender_id, client_message_id, recipients::text[],
    content, content_type, fingerprint, accepted_at, 'redis', partition, log_offset,
    coalesce(attempts, 1), trace_id, payload_key
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::int[], $13::text[],
    $14::smallint[], $15::text[], $16::text[]) AS batch (id, key, correlation_id, conversation_id,
    sender_id, client_message_id, recipients, content, content_type, fingerprint, accepted_at,
    partition, log_offset, attempts, trace_id, payload_key)
ON CONFLICT DO NOTHING
"""

COLUMNS = (
    "id", "idempotency_key", "correlation_id", "conversation_id", "sender_id", "client_message_id",
    "recipient_ids", "content", "content_type", "fingerprint", "accepted_at", "partition",
    "log_offset", "attempts", "trace_id", "payload_key",
)  # fmt: skip


def batches(name: str):
    return [
        [placed(message(f"{name}-{b}-{i}", f"conv{i % 97}", "x" * 250)) for i in range(ROWS)]
        for b in range(BATCHES)
    ]


@pytest.mark.quiet
async def test_the_writer_is_as_fast_as_a_bare_insert(writer, fence, database_pool):
    """At least 0.85 of it, batches of 500, each side by its best round.

    Rounds alternate, and go on while the machine's other work may be what is measured.
    """
    bare: list[float] = []
    ours: list[float] = []
    async with database_pool.acquire() as connection:

        async def insert(batch) -> None:
            values = columns(batch)[0].values
            values["accepted_at"] = list(map(datetime.fromisoformat, values["accepted_at"]))
            await connection.execute(BARE, *(values[name] for name in COLUMNS))

        async def write(batch) -> None:
            await writer.write(batch, fence)

        while len(bare) < MOST_ROUNDS:
            bare.append(await timed(database_pool, insert, f"bare{len(bare)}"))
            ours.append(await timed(database_pool, write, f"ours{len(ours)}"))
            if len(bare) >= FEWEST_ROUNDS and min(bare) / min(ours) >= 0.85:
                return
    pytest.fail(f"{min(bare) / min(ours):.2f} of a bare insert")


async def timed(pool, work, name: str) -> float:
    ready = batches(name)
    await pool.execute("TRUNCATE messages CASCADE")
    await pool.execute("CHECKPOINT")
    began = time.perf_counter()
    for batch in ready:
        await work(batch)
    return time.perf_counter() - began
