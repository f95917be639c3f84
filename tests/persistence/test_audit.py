"""The guide's scenario 3: find what is wrong in the tables, exactly, and repair only that."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from persistence.audit.audit import audit
from persistence.audit.repair import repair
from persistence.audit.report import Lack
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.errors import PersistenceError
from persistence.retention.burial import Doomed, delete_rows, mark_erased
from tests.persistence.loglib import append, broken, contents, lag, letters, raw
from tests.persistence.samples import PARTITIONS, message, receipt
from tests.support.positions import settle
from transport.contract import Reason, Topic
from transport.features.forwarding import Forwarding
from transport.message.envelope import seal_message, seal_receipt

COPY = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, created_at,
    transport, partition, log_offset)
SELECT {id}, idempotency_key, correlation_id, conversation_id, sender_id, client_message_id,
    recipient_ids, content, content_type, fingerprint, accepted_at,
    created_at + interval '{later}', 'direct', partition, ''
FROM messages WHERE client_message_id = $1 ORDER BY seq LIMIT 1
"""


@pytest.fixture
async def persisted(start, transport, eventually):
    """Append events, have a worker deal with all of them, and stop it."""

    async def persist(*events) -> None:
        await append(transport, *events)
        worker = start()
        await eventually(lambda: _acked(transport))
        await worker.stop()

    return persist


async def _acked(transport) -> bool:
    return await lag(transport) == 0


async def snapshot(pool) -> list:
    tables = ("messages", "message_receipts", "dead_letters")
    return [await pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]


async def test_nothing_is_found_after_everything_that_can_rightly_happen(
    persisted, transport, database_pool
):
    one = message("c1")
    await persisted(
        one,
        one,
        message("c1", content="another body"),
        receipt(one),
        receipt(message("never sent")),
        raw(b"\xff"),
        broken(message("c2", content="xyzzy")),
        message("c3", "conv3"),
    )
    # The letters are in the dead-letter log alone: no indexer has run.
    report = await audit(database_pool, transport)
    assert report.clean
    assert (report.rows, sum(r.records for r in report.ranges)) == (2, 8)


async def test_a_receipt_may_spell_its_message_otherwise(persisted, transport, database_pool):
    one = message("c1")
    sent = seal_receipt(receipt(one), partitions=PARTITIONS, traceparent=None)
    body = sent.body.replace(one.message_id.encode(), one.message_id.upper().encode())
    await persisted(one, msgspec.structs.replace(sent, body=body))
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 1
    assert (await audit(database_pool, transport)).clean
    await mark_erased(database_pool, [Doomed(UUID(one.message_id), datetime.now(UTC))])
    await delete_rows(database_pool, [UUID(one.message_id)])
    assert (await audit(database_pool, transport)).clean


async def test_what_the_log_lost_is_told_since_it_cannot_be_compared(
    persisted, transport, database_pool
):
    await persisted(message("c1"))
    assert (await audit(database_pool, transport)).lost == 0

    class Lossy(Forwarding):
        async def progress(self, topic, *, group):
            told = await self.inner.progress(topic, group=group)
            return [msgspec.structs.replace(part, lost=2) for part in told]

    report = await audit(database_pool, Lossy(transport))
    assert (report.lost, report.clean) == (2 * transport.partitions, True)


async def test_letters_that_are_only_in_the_table_count_too(
    persisted, transport, database_pool, start, eventually
):
    await persisted(raw(b"\xff"))
    start(DeadLetterIndexer, member="i1")
    await eventually(lambda: database_pool.fetchval("SELECT count(*) FROM dead_letters"))
    assert (await audit(database_pool, transport)).clean


async def test_an_acknowledged_message_without_a_row_is_found_and_made_from_the_log(
    persisted, transport, database_pool
):
    await persisted(*(message(f"c{i}", content=f"{i}") for i in range(5)), receipt(message("c4")))
    await database_pool.execute("DELETE FROM messages WHERE content IN ('1', '4')")
    before = await snapshot(database_pool)
    report = await audit(database_pool, transport)
    lost = {message("c1").message_id, message("c4").message_id}
    assert {u.message_id for u in report.unaccounted} == lost
    assert [u.lacks for u in report.unaccounted] == [Lack.ROW] * 3  # the receipt went too
    assert await snapshot(database_pool) == before  # an audit changes nothing
    done = await repair(database_pool, transport)
    assert list(done.inserted) == list(report.unaccounted)
    assert (await audit(database_pool, transport)).clean
    assert await contents(database_pool) == ["0", "2", "3", "1", "4"]
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 1


async def test_a_row_that_is_not_what_was_sent_is_found_and_restored(
    persisted, transport, database_pool
):
    await persisted(message("c1", content="as sent"), message("c2"))
    await database_pool.execute(
        "UPDATE messages SET content = 'tampered', recipient_ids = '{eve}' "
        "WHERE content = 'as sent'"
    )
    [differing] = (await audit(database_pool, transport)).differing
    assert set(differing.columns) == {"content", "recipient_ids"}
    assert differing.message_id == message("c1").message_id
    done = await repair(database_pool, transport)
    assert list(done.restored) == [differing]
    assert await contents(database_pool) == ["as sent", "hello"]
    assert (await audit(database_pool, transport)).clean


async def test_duplicates_without_the_unique_index_are_found_and_the_earliest_is_kept(
    persisted, transport, database_pool
):
    await persisted(message("c1"), message("c2"), receipt(message("c1")))
    await database_pool.execute("ALTER TABLE messages DROP CONSTRAINT messages_idempotency_key_key")
    await database_pool.execute(COPY.format(id="gen_random_uuid()", later="1 hour"), "c1")
    await database_pool.execute(COPY.format(id="gen_random_uuid()", later="-1 hour"), "c1")
    await database_pool.execute(
        "INSERT INTO message_receipts (message_id, user_id, state, at, correlation_id) SELECT id, "
        "'late reader', 'read', now(), 'c' FROM messages ORDER BY created_at DESC LIMIT 1"
    )
    report = await audit(database_pool, transport)
    assert list(report.missing_constraints) == ["messages_idempotency_key_key"]
    [duplicate] = report.duplicates
    assert duplicate.idempotency_key == message("c1").idempotency_key
    assert len(duplicate.surplus) == 2
    assert all(duplicate.kept.created_at < row.created_at for row in duplicate.surplus)
    done = await repair(database_pool, transport)
    assert list(done.removed) == [duplicate]
    assert list(done.constraints) == ["messages_idempotency_key_key"]
    rows = await database_pool.fetch("SELECT id, seq FROM messages WHERE client_message_id = 'c1'")
    # The earliest row, under the id that its sender was told (promise 4).
    assert [row["seq"] for row in rows] == [duplicate.kept.seq]
    assert [str(row["id"]) for row in rows] == [message("c1").message_id] == [duplicate.message_id]
    users = await database_pool.fetch(
        "SELECT user_id FROM message_receipts WHERE message_id = $1 ORDER BY 1", rows[0]["id"]
    )
    assert [row["user_id"] for row in users] == ["bob", "late reader"]
    assert (await audit(database_pool, transport)).clean


@pytest.mark.parametrize("published", [False, True])
async def test_every_rule_that_was_dropped_is_put_back(
    persisted, transport, database_pool, published
):
    if published:  # then PostgreSQL changes no row of a table without a key
        await database_pool.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    await persisted(message("c1"), receipt(message("c1")))
    for table, constraint in (
        ("message_receipts", "message_receipts_message_id_fkey"),
        ("message_receipts", "message_receipts_pkey"),
        ("messages", "messages_pkey"),
        ("messages", "messages_idempotency_key_key"),
    ):
        await database_pool.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    await database_pool.execute(COPY.format(id="id", later="1 hour"), "c1")
    await database_pool.execute("INSERT INTO message_receipts SELECT * FROM message_receipts")
    await database_pool.execute(
        "INSERT INTO message_receipts SELECT gen_random_uuid(), user_id, state, at, "
        "correlation_id, created_at FROM message_receipts LIMIT 1"
    )
    done = await repair(database_pool, transport)
    assert len(done.constraints) == 4
    assert (len(done.removed), done.receipts_removed) == (1, 2)
    report = await audit(database_pool, transport)
    assert report.clean
    assert report.rows == 1
    identity = "SELECT relreplident FROM pg_class WHERE oid = $1::text::regclass"
    for table in ("messages", "message_receipts"):
        assert await database_pool.fetchval(identity, table) == b"d"


async def test_duplicates_behind_a_broken_unique_index_are_found(
    persisted, transport, database_pool
):
    """The index is there and says it is unique; the table says otherwise. The table is believed.

    Neither may the planner read the index, nor conclude from it that one row of a key is enough.
    """
    await persisted(message("c1"))
    ready = (
        "UPDATE pg_index SET indisready = {} "
        "WHERE indexrelid = 'messages_idempotency_key_key'::regclass"
    )
    await database_pool.execute(ready.format("false"))
    await database_pool.execute(COPY.format(id="gen_random_uuid()", later="1 hour"), "c1")
    await database_pool.execute(ready.format("true"))
    # To the planner the table now looks large: it takes an index wherever it may.
    name = await database_pool.fetchval("SELECT current_database()")
    for setting in ("seq_page_cost = 1e5", "random_page_cost = 0", "enable_seqscan = off"):
        await database_pool.execute(f'ALTER DATABASE "{name}" SET {setting}')
    await database_pool.expire_connections()
    report = await audit(database_pool, transport)
    assert not report.missing_constraints
    assert len(report.duplicates) == 1
    await repair(database_pool, transport)
    assert (await audit(database_pool, transport)).clean
    with pytest.raises(Exception, match="messages_idempotency_key_key"):
        await database_pool.execute(COPY.format(id="gen_random_uuid()", later="1 hour"), "c1")


async def test_records_passed_without_a_row_or_a_letter_become_dead_letters(
    transport, database_pool
):
    await append(
        transport, raw(b"\xff garbage"), message("c1"), broken(message("c2", content="xyzzy"))
    )
    await append(transport, message("c1", content="another body"))
    assert (await audit(database_pool, transport)).clean, "none of them is passed yet"
    await settle(database_pool, transport)  # and nothing else: a broken worker
    report = await audit(database_pool, transport)
    assert sorted(u.lacks for u in report.unaccounted) == ["dead_letter", "row", "row", "row"]
    done = await repair(database_pool, transport)
    assert [u.message_id for u in done.inserted] == [message("c1").message_id]
    found = {letter.reason: letter.record.body for letter in await letters(transport)}
    assert set(found) == {Reason.UNDECODABLE, Reason.REJECTED, Reason.IDEMPOTENCY_CONFLICT}
    assert found[Reason.UNDECODABLE] == b"\xff garbage"
    assert (await audit(database_pool, transport)).clean


async def test_a_record_with_an_id_of_its_own_that_an_earlier_release_stored_lacks_nothing(
    persisted, transport, database_pool
):
    class WithoutLetters(Forwarding):
        async def read(self, topic, partition, **options):
            if topic is Topic.DEAD_LETTERS:
                return []
            return await self.inner.read(topic, partition, **options)

    own = str(uuid4())
    sealed = seal_message(message("c1"), partitions=transport.partitions, traceparent=None)
    bodies = [
        msgspec.json.encode(msgspec.json.decode(sealed.body) | {"messageId": identifier})
        for identifier in (own, str(uuid4()))
    ]
    await persisted(*map(raw, bodies), message("c3"))
    records = [
        record
        for partition in range(transport.partitions)
        for record in await transport.read(Topic.MESSAGES, partition)
    ]
    stored, refused = (next(r for r in records if r.body == body) for body in bodies)
    row = COPY.replace("{id}, idempotency_key", "{id}, 'own'").format(
        id=f"'{own}'", later="0 hours"
    )
    await database_pool.execute(row, "c3")
    await database_pool.execute(
        "UPDATE messages SET transport = $1, partition = $2, log_offset = $3 "
        "WHERE idempotency_key = 'own'",
        transport.name,
        stored.partition,
        stored.offset,
    )
    report = await audit(database_pool, WithoutLetters(transport))
    assert [it.message_id for it in report.own_ids] == [own]
    assert [u.offset for u in report.unaccounted] == [refused.offset]
    assert not report.differing


async def test_what_is_not_acknowledged_yet_is_left_out(persisted, transport, database_pool):
    await persisted(message("c1"))
    await append(transport, message("c2"), raw(b"\xff"), message("c3", "conv3"))
    report = await audit(database_pool, transport)
    assert report.clean
    assert sum(r.records for r in report.ranges) == 1


async def test_a_message_read_before_one_that_stands_ahead_of_it_is_found(
    persisted, transport, database_pool
):
    await persisted(message("c1"), message("c2"), message("elsewhere", "conv2"))
    await database_pool.execute("ALTER TABLE messages ALTER seq SET GENERATED BY DEFAULT")
    await database_pool.execute("UPDATE messages SET seq = 999 WHERE client_message_id = 'c1'")
    [disorder] = (await audit(database_pool, transport)).disorders
    assert (disorder.message_id, disorder.after_seq) == (message("c2").message_id, 999)


async def test_a_repair_that_fails_changes_nothing(persisted, transport, database_pool):
    await persisted(message("c1"), message("c2", content="as sent"), message("c3"))
    await database_pool.execute("DELETE FROM messages WHERE client_message_id = 'c1'")
    await database_pool.execute("UPDATE messages SET content = 'x' WHERE client_message_id = 'c2'")
    await database_pool.execute("ALTER TABLE messages DROP CONSTRAINT messages_idempotency_key_key")
    await database_pool.execute(COPY.format(id="gen_random_uuid()", later="1 hour"), "c3")
    await database_pool.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no updates today'; END $$"
    )
    await database_pool.execute(
        "CREATE TRIGGER no BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION no()"
    )
    before = await snapshot(database_pool)
    with pytest.raises(PersistenceError):
        await repair(database_pool, transport)
    assert await snapshot(database_pool) == before
    assert (await audit(database_pool, transport)).missing_constraints
