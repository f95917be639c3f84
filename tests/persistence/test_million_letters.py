"""However many dead letters there are: what an operator asks reads a bounded part of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from persistence.dead_letters.causes import give_causes
from persistence.dead_letters.dead_letters import LOOKED_AT, DeadLetters
from persistence.dead_letters.groups import COUNTED, SAMPLED, letter_groups
from persistence.dead_letters.selection import Selection
from transport.contract import Reason

pytestmark = pytest.mark.timeout(600)

# One reason in three causes, one letter of another reason, and the oldest that has a rare word.
_FILL = """
INSERT INTO dead_letters (
    identity, transport, log_offset, source_topic, source_partition, source_offset, message_id,
    conversation_id, kind, record_key, body, header_names, header_values, reason, error, attempts,
    redrives, failed_at, state, cause
)
SELECT decode(md5(n::text), 'hex'), 'redis', n || '-0', 'messages', 0, n || '-0', NULL,
    'conv' || n % 100, 'message', 'k', '{}', '{}', '{}',
    CASE WHEN n = 2 THEN 'undecodable' ELSE 'rejected' END,
    CASE WHEN n = 1 THEN 'a Rare word' ELSE 'error ' || n || ' of kind ' || n % 3 END,
    3, 0, now() - make_interval(secs => ($1 - n) / 100.0), 'pending',
    CASE WHEN n = 2 THEN 'rare' ELSE 'kind ' || n % 3 END
FROM generate_series(1, $1::int) AS n
"""


class Explained:
    """Lends connections that explain whatever is asked, and counts the rows that were touched."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.touched = 0

    async def acquire(self, **options: Any) -> Any:
        return _Connection(self, await self._pool.acquire(**options))

    async def release(self, lent: Any) -> None:
        await self._pool.release(lent.connection)

    def note(self, plan: dict[str, Any]) -> None:
        if "Scan" in plan["Node Type"] and "Relation Name" in plan:
            rows = sum(
                plan.get(name, 0)
                for name in (
                    "Actual Rows",
                    "Rows Removed by Filter",
                    "Rows Removed by Index Recheck",
                )
            )
            self.touched += round(rows * plan["Actual Loops"])
        for child in plan.get("Plans", ()):
            self.note(child)


class _Connection:
    def __init__(self, explained: Explained, connection: Any) -> None:
        self._explained = explained
        self.connection = connection
        self.fetch = self._asked(connection.fetch)
        self.fetchrow = self._asked(connection.fetchrow)
        self.fetchval = self._asked(connection.fetchval)

    def _asked(self, ask: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def explained(sql: str, *values: Any) -> Any:
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}"
            (found,) = json.loads(await self.connection.fetchval(explain, *values))
            self._explained.note(found["Plan"])
            return await ask(sql, *values)

        return explained


@pytest.fixture(params=[36_000, pytest.param(1_000_000, marks=pytest.mark.chaos)])
async def letters(request: pytest.FixtureRequest, database_pool: Any) -> int:
    """Fill the table; return how many there are: three times what one page may look at, or more."""
    async with database_pool.acquire() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(_FILL, request.param, timeout=300)
        await connection.execute("VACUUM ANALYZE dead_letters", timeout=300)
        await connection.execute("RESET statement_timeout")
    number: int = request.param
    return number


async def test_nothing_that_is_asked_reads_them_all(letters: int, database_pool: Any) -> None:
    explained = Explained(database_pool)
    dead = DeadLetters(explained)  # type: ignore[arg-type]

    async def touched(asked: Awaitable[Any], least: int, most: int) -> Any:
        explained.touched = 0
        result = await asked
        assert least <= explained.touched <= most
        return result

    groups = await touched(letter_groups(explained), 4, 4 * (COUNTED + SAMPLED + 10) + 10)  # type: ignore[arg-type]
    assert [(item.reason, item.cause, item.letters, item.more) for item in groups.items] == [
        *[("rejected", f"kind {n}", COUNTED, True) for n in range(3)],
        ("undecodable", "rare", 1, False),
    ]
    few = 2 * 51
    page = await touched(dead.page(Selection(), limit=50), 50, few)
    assert [item.id for item in page.items] == list(range(letters, letters - 50, -1))
    for selection in (
        Selection(reason=Reason.REJECTED),
        Selection(reason=Reason.REJECTED, cause="kind 1"),
        Selection(conversation_id="conv7"),
    ):
        page = await touched(dead.page(selection, limit=50), 50, LOOKED_AT)
        assert len(page.items) == 50
        again = await touched(dead.page(selection, limit=50, before=page.next), 50, LOOKED_AT)
        assert again.items[0].id < page.items[-1].id
    page = await touched(dead.page(Selection(reason=Reason.UNDECODABLE), limit=50), 1, few)
    assert [item.id for item in page.items] == [2]
    for selection, text in (
        (Selection(), "rare WORD"),
        (Selection(reason=Reason.REJECTED), "rare word"),
        (Selection(cause="kind 1"), "rare word"),
        (Selection(failed_before=datetime(2020, 1, 1, tzinfo=UTC)), None),
    ):
        page = await touched(
            dead.page(selection, text=text, limit=50), LOOKED_AT, 2 * LOOKED_AT + few
        )
        assert (page.items, page.next) == ([], letters - LOOKED_AT + 1)


async def test_a_search_goes_on_from_page_to_page_until_it_has_looked_at_all(
    letters: int, database_pool: Any
) -> None:
    dead = DeadLetters(database_pool)
    found, before, pages = [], None, 0
    while True:
        page = await dead.page(Selection(), text="RARE w", before=before, limit=50)
        found += [item.id for item in page.items]
        pages += 1
        if page.next is None:
            break
        before = page.next
    assert found == [1]
    assert pages <= letters // LOOKED_AT + 1


async def test_causes_are_given_a_little_at_a_time_and_letters_being_redriven_are_left(
    letters: int, database_pool: Any
) -> None:
    await database_pool.execute(
        "UPDATE dead_letters SET cause = NULL, conversation_id = NULL, kind = 'unknown' "
        "WHERE id > $1",
        letters - 2500,
    )
    explained = Explained(database_pool)
    assert (await letter_groups(database_pool)).ungrouped == 2500
    async with database_pool.acquire() as connection, database_pool.acquire() as other:
        taken = other.transaction()
        await taken.start()
        await other.execute("SELECT 1 FROM dead_letters WHERE id = $1 FOR UPDATE", letters)
        lent = _Connection(explained, connection)
        lent.transaction, lent.execute = connection.transaction, connection.execute  # type: ignore[attr-defined]
        assert [await give_causes(lent, 1000) for _ in range(4)] == [1000, 1000, 499, 0]  # type: ignore[arg-type]
        assert explained.touched < 8 * 1000
        await taken.rollback()
        assert await give_causes(connection, 1000) == 1
    rows = await database_pool.fetch(
        "SELECT DISTINCT cause, conversation_id FROM dead_letters WHERE id > $1", letters - 2500
    )
    assert {tuple(row) for row in rows} == {("error <n> of kind <n>", "k")}
