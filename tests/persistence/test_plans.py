"""What is asked hundreds of times a second, or by people, reads no whole table.

Whatever its statistics say.
"""

from __future__ import annotations

import hashlib
import re

import pytest

from persistence.reads import messages as queries
from persistence.reads import outcomes as settled
from persistence.reads import recent, search
from persistence.store import lookup, statement
from persistence.worker import settled_query

# The plan that PostgreSQL keeps for a prepared statement, made at the worst moment: the tables have
# been analyzed while they were empty, so reading them whole looks free.
ASKED = {
    "look-up of a tick": lookup.ANSWERS,
    "what stood in the way": statement.CLASSIFY,
    "what is settled": settled_query.SETTLED,
    "receipt that is a row": queries.RECEIPT,
    "what became of messages": settled.OUTCOMES,
    "messages by any id": search.MESSAGES,
    "messages by the beginning of an id": search.LIKE,
    "dead letters by the beginning of an id": search.LETTERS_LIKE,
    "a conversation, newest first": recent.OF_CONVERSATION,
    "a slice of time": recent.SLICE,
}


_ROWS = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, transport,
    partition, log_offset)
SELECT id, id::text, id::text, 'c', 's', md5(n::text), '{}', repeat('x', 200), 'text', 'f', now(),
    'redis', 0, n || '-0'
FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 30000) AS n) AS made
"""


async def test_a_message_is_found_by_an_id_of_its_sender_without_reading_the_table(database_pool):
    """Looking costs some megabytes of rows, as it would in a table of any size."""
    async with database_pool.acquire() as connection:
        await connection.execute(_ROWS)
        await connection.execute("VACUUM ANALYZE messages")
        pages = await connection.fetchval("SELECT pg_relation_size('messages') / 8192")
        (row,) = await connection.fetch(search.MESSAGES, hashlib.md5(b"15000").hexdigest(), None, 2)
        assert row["correlation_id"] == str(row["id"])
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {search.MESSAGES}"
        plan = await connection.fetchval(explain, row["client_message_id"], None, 2)
    looked = sum(int(blocks) for blocks in re.findall(r'"Lossy Heap Blocks": (\d+)', plan))
    assert 0 < looked < pages / 2


@pytest.mark.parametrize("sql", ASKED.values(), ids=ASKED)
async def test_no_kept_plan_reads_a_whole_table(sql, database_pool):
    async with database_pool.acquire() as connection:
        await connection.execute("ANALYZE messages, message_receipts, dead_letters")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE asked AS {sql}")
        parameters = await connection.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'asked'"
        )
        nulls = ", ".join(["NULL"] * parameters)
        rows = await connection.fetch(f"EXPLAIN EXECUTE asked ({nulls})")
    plan = "\n".join(row[0] for row in rows)
    assert "Index" in plan
    assert "Seq Scan" not in plan
    assert "Hash Join" not in plan
    assert "idempotency_key" not in plan, "the next release drops that index"
