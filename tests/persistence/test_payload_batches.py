"""Batches of records whose content is in the payload store."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from persistence.store.group_writer import STATEMENT_BYTES
from tests.payloads.stores import folder_of, opened
from tests.payloads.test_rows import large
from tests.persistence.loglib import append, lag
from tests.persistence.samples import PARTITIONS, message
from transport.message.partitioner import partition_for

_EACH = 30_000
_COUNT = 2 * STATEMENT_BYTES // _EACH


async def test_a_statement_is_bounded_by_the_content_that_its_records_declare(
    start, transport, database_pool, eventually, tmp_path: Path
):
    """The records alone are some hundred bytes each, and would all be one statement."""
    store = opened(f"file://{tmp_path}/payloads")
    messages = [large(f"{n:05} " * (_EACH // 6), f"{n}") for n in range(_COUNT)]
    for one in messages:
        path = folder_of(store) / one.payload.key
        path.parent.mkdir()
        path.write_text(one.content)
    await append(transport, *messages)
    start(payloads=store, stream_batch_size=_COUNT)

    async def drained() -> bool:
        return await lag(transport) == 0

    await eventually(drained)
    rows = await database_pool.fetch(
        "SELECT sum(length(content)) AS bytes FROM messages GROUP BY xmin::text"
    )
    sizes = [row["bytes"] for row in rows]
    assert sum(sizes) == _COUNT * _EACH
    assert max(sizes) <= STATEMENT_BYTES


async def test_records_without_rows_or_letters_leave_no_gap_behind_them(
    start, transport, transport_settings, database_pool, eventually, tmp_path: Path
):
    """A repeat of an erased message, whose content is gone too, is the last of its partition."""
    store = opened(f"file://{tmp_path}/payloads")
    erased = large()
    await database_pool.execute(
        "INSERT INTO tombstones (id, accepted_at, erased_at) VALUES ($1, now(), now())",
        erased.message_id,
    )

    async def drained() -> bool:
        return await lag(transport) == 0

    first = start(payloads=store, stream_max_retries=1)
    await append(transport, message("before"), erased)
    await eventually(drained)
    await first.stop()
    async with Redis(
        host=transport_settings.redis_host, port=transport_settings.redis_port, protocol=2
    ) as client:
        await client.select(transport_settings.redis_stream_db)
        partition = partition_for(erased.conversation_id, PARTITIONS)
        await client.xtrim(f"msg:stream:{partition}", maxlen=0, approximate=False)
    second = start(payloads=store)
    await append(transport, message("after"))
    await eventually(drained)
    assert not second.consumer.status().paused
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 2
