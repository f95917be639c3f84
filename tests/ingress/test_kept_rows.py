"""Answers from rows: PostgreSQL may lose the row after it answered a repeat."""

from __future__ import annotations

import pytest
import pytest_asyncio

from persistence.chain.ends import end_of
from persistence.chain.kept_rows import KeptRows
from persistence.chain.known_chain import KnownChain
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.gated_log import GatedLog
from tests.support.eventually import eventually


@pytest.fixture
def chain(database_pool) -> KnownChain:
    return KnownChain(database_pool)


@pytest_asyncio.fixture
async def stored(start: Start, chain: KnownChain, gated: GatedLog) -> Service:
    """An ingress that writes a second log, too, with one message that has a row."""
    return await _stored(start, chain, gated, mirrors=True)


async def _stored(start: Start, chain: KnownChain, log: GatedLog, *, mirrors: bool) -> Service:
    service = await start(transport=log, kept=KeptRows(chain, [log], mirrors=mirrors))
    assert (await service.post(message(1))).status_code == 202
    async with working(service):
        await eventually(service.rows)
    await chain.load()
    return service


async def test_a_row_whose_record_may_lack_its_copy_is_appended_again(
    stored: Service, gated: GatedLog
) -> None:
    (row,) = await stored.rows()
    repeat = await stored.post(message(1))
    assert (repeat.status_code, repeat.json()["state"]) == (200, "persisted")
    assert repeat.json()["messageId"] == str(row["id"])
    first, again = (envelope for batch in gated.published for envelope in batch)
    assert again.body == first.body


async def test_another_body_is_refused_by_the_row(stored: Service, gated: GatedLog) -> None:
    assert (await stored.post(message(1, content="another"))).status_code == 422
    assert len(gated.published) == 1


async def test_a_row_whose_record_is_below_a_mark_answers(
    stored: Service, chain: KnownChain, gated: GatedLog
) -> None:
    ends = {"redis": await end_of(gated)}
    await chain.update(lambda now: now.marked(ends, "redis", "kafka"))
    assert (await stored.post(message(1))).json()["state"] == "persisted"
    assert len(gated.published) == 1


async def test_where_one_log_is_written_a_row_answers(
    start: Start, chain: KnownChain, gated: GatedLog
) -> None:
    service = await _stored(start, chain, gated, mirrors=False)
    assert (await service.post(message(1))).json()["state"] == "persisted"
    assert len(gated.published) == 1
