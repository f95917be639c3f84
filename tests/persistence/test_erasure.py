"""An erasure leaves nothing of a sender or a conversation, and nothing brings it back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from migration_guide.backfill.request import Request
from migration_guide.backfill.run import Backfill
from migration_guide.parity.comparison import ParityLimits
from otel.metrics import Metrics
from persistence.audit.audit import audit
from persistence.audit.repair import repair
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.selection import Selection
from persistence.errors import Outage
from persistence.operator_actions import Actions
from persistence.payloads.errors import PayloadOutage
from persistence.retention import burial
from persistence.retention import erasure as erasure_module
from persistence.retention.archives import ArchiveTable
from persistence.retention.burial import Doomed, delete_rows, mark_erased
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.store.locks import lock_of
from persistence.store.statement import LOCK_CLASS
from persistence.store.writer import insert
from persistence.worker.settled_query import SettlementQuery, unsettled_record
from tests.payloads.stores import folder_of, opened
from tests.persistence.loglib import append, broken, contents, lag, raw
from tests.persistence.samples import PARTITIONS, message, placed, receipt
from tests.support.canary import columns_with
from transport.contract import WORKER_GROUP, Envelope, Topic
from transport.message.envelope import Message, seal_receipt
from transport.message.partitioner import partition_for
from transport.message.payload import ContentDigest
from transport.registry import create

CANARY = "kanarienvogel-7f3a9c"
SENDER = f"sender-{CANARY}"


def payload(client: str, **more) -> Message:
    """A message of 9,000 bytes, which the store of these tests keeps out of the row."""
    whole = message(client, content=f"{CANARY} " * 450, **more)
    digest = ContentDigest()
    digest.add(whole.content.encode())
    return whole.with_payload(
        digest.payload(whole.message_id, whole.content_type, whole.recipient_ids)
    )


def ours(client: str, **more) -> Message:
    """A message of the subject with the canary wherever a client can put it."""
    fields = {
        "sender": SENDER, "content": f"hello {CANARY}", "correlation_id": f"corr-{CANARY}-{client}",
        "recipient_ids": (f"to-{CANARY}",), **more,
    }  # fmt: skip
    return message(f"{CANARY}-{client}", **fields)


def _unstorable(of: Message) -> Envelope:
    """A receipt that PostgreSQL refuses: its user has a NUL."""
    return seal_receipt(receipt(of, user="\0user"), partitions=PARTITIONS, traceparent=None)


@pytest.fixture
def store(tmp_path):
    return opened(f"file://{tmp_path}/payloads", payload_row_bytes=5000)


@pytest.fixture
def drained(start, transport, eventually, store):
    """Have workers and an indexer empty the log, and stop them."""

    async def drain() -> None:
        running = [
            start(payloads=store, stream_max_retries=1),
            start(DeadLetterIndexer, member="i1"),
        ]

        async def done() -> bool:
            return not await lag(transport) and not await lag(transport, Topic.DEAD_LETTERS)

        await eventually(done)
        for process in running:
            await process.stop()

    return drain


async def erase(pool, subject: Subject, transport, store=None):
    return await Erasure(pool, subject, [transport], store).run(by="me@here")


@pytest.fixture
async def sent(transport, database_pool, drained, store) -> list[Message]:
    """Messages of the subject: rows, one with a payload, dead letters, and one that waits."""
    first, second, large = ours("1"), ours("2"), payload("3", sender=SENDER)
    await store.put(large.payload.key, large.content.encode())
    another = msgspec.structs.replace(first, content=f"another {CANARY}")
    await append(
        transport, message("kept", content="stays"), first, second,
        msgspec.structs.replace(large, content=""), broken(ours("4")), another, receipt(first),
        message("5", content=f"about {SENDER}"),
        raw(b'{"v": 99, "senderId": "%s"}' % SENDER.encode()),
    )  # fmt: skip
    await drained()
    async with Actions(database_pool).recorded(
        "produce", who="me", target=f"a message of {SENDER} in conv", why=None
    ):
        pass
    await append(transport, ours("6"))  # accepted, and no row yet
    assert await columns_with(database_pool, CANARY) >= {
        "messages.content", "messages.sender_id", "dead_letters.body", "operator_actions.target",
    }  # fmt: skip
    return [first, another]


@pytest.fixture
def nothing_left(database_pool, store):
    """Fail where anything of the subject is left, in the database or in the payload store."""

    async def look() -> None:
        # "about SENDER" is another's message. It mentions the sender, and stays.
        assert await columns_with(database_pool, CANARY) == {"messages.content"}
        assert sorted(await contents(database_pool)) == [f"about {SENDER}", "stays"]
        files = [path.read_bytes() for path in folder_of(store).rglob("*") if path.is_file()]
        assert not [data for data in files if CANARY.encode() in data]

    return look


async def test_nothing_of_a_sender_is_left(transport, database_pool, sent, store, nothing_left):
    subject = Subject("sender", SENDER)
    erasure = Erasure(database_pool, subject, [transport], store)
    told = await erasure.preview(within=30)
    assert (told.rows, told.letters) == (3, 3)
    assert len(await contents(database_pool)) == 5  # a preview changes nothing

    report = await erasure.run(by="me@here")
    assert (report.rows, report.receipts, report.letters, report.payloads) == (3, 1, 3, 1)
    remains = {(remain.topic, remain.records) for remain in report.remains}
    assert remains == {("messages", 7), ("dead_letters", 3)}
    records = await transport.read(Topic.MESSAGES, _partition(transport))
    assert sum(CANARY.encode() in record.body for record in records) == 9  # mentions, a receipt
    await nothing_left()
    again = await erase(database_pool, subject, transport, store)
    assert (again.rows, again.letters) == (0, 0)


async def test_nothing_brings_it_back_while_the_log_has_it(
    transport, database_pool, drained, sent, store, nothing_left
):
    await erase(database_pool, Subject("sender", SENDER), transport, store)
    await drained()  # the one that waited
    await nothing_left()
    await transport.forget_group(WORKER_GROUP)
    await drained()  # everything again
    await nothing_left()
    assert (await audit(database_pool, transport)).clean
    done = await repair(database_pool, transport)
    assert (done.inserted, done.dead_lettered) == ([], [])
    redriver = Redriver(database_pool, transport, Metrics())
    await redriver.wait(await redriver.start(Selection(), by="me"))
    await redriver.close()
    await append(transport, *sent)  # as when PostgreSQL could not be asked
    await drained()
    await nothing_left()
    letters = await DeadLetters(database_pool).list(state=None)
    assert {letter.state for letter in letters} == {"discarded"}


async def test_what_has_only_dead_letters_goes_too(transport, database_pool, drained):
    """A receipt's letter names neither sender nor conversation, and no log has the message."""
    row, dead = ours("1"), ours("2")
    letters = [_unstorable(row), broken(dead), receipt(dead, user=f"user {CANARY}")]
    await append(transport, row, *letters, _unstorable(message("another's")))
    await drained()
    subject = Subject("sender", SENDER)
    report = await Erasure(database_pool, subject, [], None).run(by="me@here")
    assert (report.rows, report.letters) == (1, 3)
    bodies = await database_pool.fetch("SELECT body FROM dead_letters WHERE body <> ''")
    assert [message("another's").message_id.encode() in body for (body,) in bodies] == [True]
    attempts = await database_pool.fetch("SELECT DISTINCT message_id FROM delivery_attempts")
    assert attempts == [(UUID(message("another's").message_id),)]


async def test_a_conversation_is_erased_with_all_its_senders(transport, database_pool, drained):
    await append(
        transport, message("1", f"conv-{CANARY}", sender="a"), message("2", f"conv-{CANARY}"),
        message("3"),
    )  # fmt: skip
    await drained()
    subject = Subject("conversation", f"conv-{CANARY}")
    redriver = Redriver(database_pool, transport, Metrics())
    await redriver.wait(await redriver.start(Selection(conversation_id=f"conv-{CANARY}"), by="me"))
    await redriver.close()
    async with Actions(database_pool).recorded(
        "redrive", who="me", target=f"dead letters with conversationId conv-{CANARY}", why=None
    ):
        pass
    report = await erase(database_pool, subject, transport)
    assert report.rows == 2
    assert await columns_with(database_pool, CANARY) == set()
    assert await contents(database_pool) == ["hello"]
    await transport.forget_group(WORKER_GROUP)
    await drained()
    assert await columns_with(database_pool, CANARY) == set()


async def test_an_erasure_goes_on_where_it_ended(transport, database_pool, drained, monkeypatch):
    await append(transport, *(ours(str(number)) for number in range(6)))
    await drained()
    subject = Subject("sender", SENDER)
    marked = erasure_module.mark_erased

    async def dies(pool, doomed) -> None:
        await marked(pool, doomed)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(erasure_module, "mark_erased", dies)
        with pytest.raises(RuntimeError, match="killed"):
            await erase(database_pool, subject, transport)
    assert len(await contents(database_pool)) == 6  # marked, and there
    report = await erase(database_pool, subject, transport)
    assert report.rows == 6
    jobs = await database_pool.fetch("SELECT id FROM jobs WHERE kind = 'erasure'")
    assert [str(row["id"]) for row in jobs] == [report.job]
    assert await columns_with(database_pool, CANARY) == set()


async def test_an_insert_that_is_under_way_brings_no_row_back(database_pool, eventually):
    """Its snapshot is older than the tombstone, and it commits after it."""
    sent = ours("1")
    identifier = UUID(sent.message_id)
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with database_pool.acquire() as connection, database_pool.acquire() as other:
        ahead = other.transaction()
        await ahead.start()
        await other.execute(
            "SELECT pg_advisory_xact_lock($1, $2)", LOCK_CLASS, lock_of(sent.conversation_id)
        )
        slow = connection.transaction()
        await slow.start()
        inserting = asyncio.create_task(insert(connection, [placed(sent)]))
        await eventually(lambda: database_pool.fetchval(waits))  # its statement has its snapshot
        marking = asyncio.create_task(
            mark_erased(database_pool, [Doomed(identifier, datetime.now(UTC))])
        )
        await eventually(lambda: database_pool.fetchval("SELECT count(*) FROM tombstones"))
        await ahead.commit()
        assert (await inserting).persisted == [0]
        assert not marking.done()
        await slow.commit()
        await marking
        assert (await delete_rows(connection, [identifier])).rows == 1
        assert (await insert(connection, [placed(sent)])).duplicates == [0]


async def test_the_archive_leaves_out_what_is_erased_meanwhile(database_pool, eventually):
    gone, old = message("gone"), message("old")
    table = ArchiveTable(database_pool)
    async with database_pool.acquire() as eraser:
        await insert(eraser, [placed(gone), placed(old)])
        async with eraser.transaction():
            await eraser.execute(
                "INSERT INTO tombstones (id, accepted_at, erased_at) VALUES ($1, now(), now())",
                UUID(gone.message_id),
            )
            planning = asyncio.create_task(table.plan(datetime.now(UTC), 10))
            waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
            await eventually(lambda: database_pool.fetchval(waiting))
        assert await planning
    [planned] = await table.of_state("planned")
    assert await table.ids(planned.id) == [UUID(old.message_id)]


async def test_an_erasure_waits_for_no_dump(database_pool):
    """Nor for a vacuum, or for whoever else reads: each page would wait for two minutes."""
    async with (
        database_pool.acquire() as dump,
        dump.transaction(isolation="repeatable_read", readonly=True),
    ):
        await dump.fetch("SELECT FROM messages")
        async with asyncio.timeout(20):
            await mark_erased(database_pool, [Doomed(uuid4(), datetime.now(UTC))])


async def test_an_erasure_goes_on_behind_no_writer(database_pool, monkeypatch):
    monkeypatch.setattr(burial, "_LONGEST", 0.1)
    async with database_pool.acquire() as connection, connection.transaction():
        await insert(connection, [placed(ours("1"))])
        with pytest.raises(Outage, match="writing rows"):
            await mark_erased(database_pool, [Doomed(uuid4(), datetime.now(UTC))])


async def test_a_backfill_takes_no_erased_message_to_another_log(
    transport, transport_settings, database_pool, drained
):
    await append(transport, ours("1"), message("2"))
    await drained()
    await erase(database_pool, Subject("sender", SENDER), transport)
    async with create("redis@8", transport_settings) as target:
        request = Request(everything=True, rate=0, limits=ParityLimits(settle=0))
        status = await Backfill(database_pool, transport, target, request).run()
        assert (status.appended, status.erased) == (1, 1)
        bodies = [
            record.body
            for partition in range(target.partitions)
            for record in await target.read(Topic.MESSAGES, partition)
        ]
    assert len(bodies) == 1
    assert CANARY.encode() not in bodies[0]


async def test_what_was_erased_counts_as_settled_in_another_log(transport, database_pool, drained):
    sent = ours("1")
    await append(transport, sent, receipt(sent))
    await drained()
    records = await transport.read(Topic.MESSAGES, _partition(transport))
    await erase(database_pool, Subject("sender", SENDER), transport)
    asked = [unsettled_record(record) for record in records]
    await SettlementQuery(database_pool, "kafka").ask(asked, letters=False)
    assert [question.settled for question in asked] == [True, True]


def test_bytes_tell_whose_an_unreadable_letter_is():
    ann, one = Subject("sender", "ann"), Subject("conversation", "1")
    hers = [
        b'{"v": 99, "senderId": "ann"}', b'{"senderId":"ann","content":"cut sho',
        b"from ann: hello", b'{"v": 99, "from": "ann"}', b'\xff\xfe {"senderId": "ann"}',
    ]  # fmt: skip
    others = [
        b'{"v": 99, "senderId": "joanna", "content": "ask ann"}', b'{"senderId":"joanna","cut',
        b"from ann@example.org", b"from ann-marie", b"from \xc3\xb6ann", b"",
    ]  # fmt: skip
    assert [ann.wrote(b"conv", body) for body in hers] == [True] * len(hers)
    assert [ann.wrote(b"ann", body) for body in others] == [False] * len(others)
    assert one.wrote(b"1", b"no json")
    assert not one.wrote(b"order-10", b'{"v": 99, "conversationId": "order-10"}')
    umlaut = Subject("sender", "j\u00f6rg")
    assert umlaut.wrote(b"conv", b'{"senderId":"j\\u00f6rg","cut')
    assert umlaut.wrote(b"conv", "{'senderId': 'j\u00f6rg'".encode())


async def test_unreadable_letters_of_others_stay(transport, database_pool, drained):
    await append(
        transport,
        raw(b'{"v": 99, "senderId": "joanna", "content": "about ann"}'),
        raw(b'{"v": 99, "senderId": "ann"}'),
    )
    await drained()
    assert (await erase(database_pool, Subject("sender", "ann"), transport)).letters == 1
    rows = await database_pool.fetch("SELECT convert_from(body, 'utf8'), state FROM dead_letters")
    assert sorted(map(tuple, rows)) == [
        ("", "discarded"),
        ('{"v": 99, "senderId": "joanna", "content": "about ann"}', "pending"),
    ]


async def test_payloads_need_their_store(transport, database_pool, drained, store):
    large = payload("1", sender=SENDER)
    await store.put(large.payload.key, large.content.encode())
    await append(transport, msgspec.structs.replace(large, content=""))
    await drained()
    with pytest.raises(PayloadOutage, match="set PAYLOAD_STORE"):
        await erase(database_pool, Subject("sender", SENDER), transport)
    assert len(await contents(database_pool)) == 1  # the row is what names its payload
    report = await erase(database_pool, Subject("sender", SENDER), transport, store)
    assert (report.rows, report.payloads) == (1, 1)


def _partition(transport) -> int:
    return partition_for("conv", transport.partitions)


async def test_what_waits_and_is_refused_after_an_erasure_makes_no_letter(
    transport, database_pool, drained
):
    hers, another = ours("1"), message("another's")
    await append(transport, broken(hers), _unstorable(ours("2")), ours("2"), broken(another))
    await erase(database_pool, Subject("sender", SENDER), transport)
    await drained()
    assert await columns_with(database_pool, CANARY) == set()
    for table in ("dead_letters", "delivery_attempts"):
        (row,) = await database_pool.fetch(f"SELECT message_id::text FROM {table}")
        assert row["message_id"] == another.message_id
