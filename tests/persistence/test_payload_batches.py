"""Batches of records whose content is in the payload store."""

from __future__ import annotations

from pathlib import Path

from persistence.store.group_writer import STATEMENT_BYTES
from tests.payloads.stores import folder_of, opened
from tests.payloads.test_rows import large
from tests.persistence.loglib import append, lag

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
