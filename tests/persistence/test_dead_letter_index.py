"""Nothing that stands in the dead-letter log keeps the letters behind it from being listed."""

from __future__ import annotations

import asyncio
import json
import random
import string
from contextlib import suppress

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from otel.metrics import Metrics
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.index import DeadLetterIndex
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.dead_letters.position import DEAD_LETTERS
from persistence.errors import FenceLost, Outage, PersistenceError, TooSlow
from persistence.worker.position_metrics import PositionMetrics
from tests.persistence.loglib import lag
from tests.persistence.samples import message, raw_record, record
from tests.support.metric_values import value_of
from transport.clock import timestamp
from transport.contract import DeadLetter, Reason, Record, Topic

_ANY = random.Random(13)
LONG = "".join(_ANY.choices(string.ascii_letters + string.digits, k=9000))
"""What PostgreSQL can't make small enough for an index by compressing it."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def index(database_pool, metrics) -> DeadLetterIndex:
    made = DeadLetterIndex(database_pool, "redis", metrics)
    await made.position.read("log-1")
    return made


def stands(number: int, body: bytes = b"{}", key: str = "k", **headers: bytes | str) -> Record:
    """A record as it stands in the dead-letter log. Header names have ``_`` for ``.``."""
    named = {
        name.replace("_", "."): value.encode() if isinstance(value, str) else value
        for name, value in headers.items()
    }
    return Record(Topic.DEAD_LETTERS, 0, f"{number}-0", key, body, named, 1_764_000_000.0)


async def offsets(pool) -> list[str]:
    rows = await pool.fetch("SELECT log_offset FROM dead_letters ORDER BY id")
    return [row["log_offset"] for row in rows]


def lacking(metrics: Metrics) -> dict[str, float]:
    found = {
        lacks: value_of(metrics.of(DeadLetterMetrics).incomplete.labels(lacks))
        for lacks in ("fields", "bytes", "row")
    }
    return {lacks: count for lacks, count in found.items() if count}


ODD = {
    "a long conversation": {
        "body": json.dumps(
            {
                "type": "message",
                "v": 1,
                "conversationId": LONG,
                "senderId": "s",
                "clientMessageId": "c",
                "content": "x",
                "contentType": "text",
            }
        ).encode()
    },
    "a time before the year 1": {"crossfade_failedAt": "0001-01-01T00:00:00+23:59"},
    "a time after the year 9999": {"crossfade_failedAt": "9999-12-31T23:59:59-23:59"},
    "an append before the year 1": {
        "__connect.errors.partition": "x",
        "crossfade_appendedAt": "0001-01-01T00:00:00",
    },
    "fewer than no attempts": {"crossfade_attempts": "-" + "9" * 30},
    "more redrives than digits": {"crossfade_redrives": "9" * 5000},
    "a partition without bound": {"__connect.errors.partition": "-" + "9" * 30},
    "an offset without bound": {"__connect.errors.offset": "\0" * 100_000},
    "an error without bound": {"__connect.errors.exception.message": b"\xff\x00" * 50_000},
    "a surrogate in the key": {"key": "\ud800"},
    "a nest of brackets": {"body": b"[" * 1_000_000},
    "a number without bound": {"body": b'{"type":"message","v":' + b"9" * 100_000 + b"}"},
    "an origin of bytes": {"mirrorOf": b"\xff:\xfe"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_an_odd_letter_is_listed_and_so_are_its_neighbours(
    index, database_pool, metrics, odd
):
    await index.add([stands(1), stands(2, **odd), stands(3)])
    assert await offsets(database_pool) == ["1-0", "2-0", "3-0"]
    assert lacking(metrics) == {}
    body = odd.get("body", b"{}")
    bodies = await database_pool.fetch("SELECT body FROM dead_letters ORDER BY id")
    assert bodies[1]["body"] == body


async def test_what_is_read_out_of_a_letter_that_is_refused_is_left_out(
    index, database_pool, metrics
):
    """Any value that a later version, or PostgreSQL, has no place for."""
    await database_pool.execute(
        "ALTER TABLE dead_letters ADD CONSTRAINT odd CHECK (conversation_id <> 'conv')"
    )
    sealed = record(message())
    await index.add([stands(1), stands(2, body=sealed.body), stands(3)])
    rows = await database_pool.fetch(
        "SELECT log_offset, conversation_id, body, state FROM dead_letters ORDER BY id"
    )
    assert [tuple(row) for row in rows][1] == ("2-0", None, sealed.body, "pending")
    assert [row["log_offset"] for row in rows] == ["1-0", "2-0", "3-0"]
    assert lacking(metrics) == {"fields": 1}


async def test_what_no_row_can_hold_is_listed_without_its_bytes_and_can_not_be_redriven(
    index, database_pool, metrics
):
    await database_pool.execute(
        "ALTER TABLE dead_letters ADD CONSTRAINT small CHECK (length(body) < 100)"
    )
    await index.add([stands(1), stands(2, body=b"x" * 1000), stands(3)])
    letters = DeadLetters(database_pool)
    assert [row.offset for row in await letters.list()] == ["3-0", "1-0"]
    (stub,) = await letters.list(state="discarded")
    assert (stub.offset, stub.size, stub.resolved_by) == ("2-0", 0, "crossfade")
    assert "too large" in stub.resolved_why
    assert lacking(metrics) == {"bytes": 1}


async def test_what_no_row_at_all_is_taken_of_is_counted_and_passed_over(
    index, database_pool, metrics
):
    await database_pool.execute(
        "ALTER TABLE dead_letters ADD CONSTRAINT none CHECK (log_offset <> '2-0')"
    )
    await index.add([stands(1), stands(2), stands(3)])
    assert await offsets(database_pool) == ["1-0", "3-0"]
    assert lacking(metrics) == {"row": 1}


async def test_an_outage_is_waited_out_and_costs_no_letter_anything(index, database_pool, metrics):
    await database_pool.execute("ALTER TABLE dead_letters RENAME TO gone")
    with pytest.raises(Outage):
        await index.add([stands(1)])
    await database_pool.execute("ALTER TABLE gone RENAME TO dead_letters")
    await index.add([stands(1)])
    assert await offsets(database_pool) == ["1-0"]
    assert lacking(metrics) == {}


async def test_nothing_is_listed_behind_letters_that_postgresql_lost(index, database_pool):
    """A promoted standby lacks a batch. The next one must not move the position past it."""
    await index.add([stands(1)])
    await index.add([stands(2)])
    await database_pool.execute("DELETE FROM dead_letters WHERE log_offset = '2-0'")
    await database_pool.execute(
        "UPDATE log_positions SET through = '1-0' WHERE partition = $1", DEAD_LETTERS
    )
    with pytest.raises(FenceLost, match="dead letters of redis in PostgreSQL is not 2-0"):
        await index.add([stands(3)])
    assert await offsets(database_pool) == ["1-0"]
    assert await index.position.read("log-1") == "1-0"
    await index.add([stands(2), stands(3)])
    assert await offsets(database_pool) == ["1-0", "2-0", "3-0"]


async def test_the_position_is_that_of_the_rows(index, database_pool):
    """A failover between the two would take the rows and keep the position."""
    await index.add([stands(1)])
    await database_pool.execute(
        "ALTER TABLE log_positions ADD CONSTRAINT none CHECK (through <> '3-0')"
    )
    with suppress(PersistenceError):
        await index.add([stands(2), stands(3)])
    assert await offsets(database_pool) == ["1-0", "2-0"]
    assert await index.position.read("log-1") == "2-0"


async def test_a_server_that_is_slow_for_a_while_keeps_no_large_letter_out(
    index, database_pool, metrics
):
    """Whether the letter or the server is at fault can't be told: time does."""
    await database_pool.execute(
        """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            IF length(NEW.body) > 1000 THEN
                RAISE EXCEPTION 'canceling statement' USING ERRCODE = '57014';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON dead_letters FOR EACH ROW EXECUTE FUNCTION slow();
        """
    )
    large = stands(2, body=b"x" * (17 << 20))
    for _ in range(4):
        with pytest.raises(TooSlow):
            await index.add([stands(1), large, stands(3)])
    impatient = DeadLetterIndex(database_pool, "redis", metrics, patience=0.0)
    await impatient.position.read("log-1")
    await impatient.add([stands(9, body=large.body)])
    assert lacking(metrics) == {"bytes": 1}
    await database_pool.execute("DROP TRIGGER slow ON dead_letters; DROP FUNCTION slow()")
    await index.position.read("log-1")
    await index.add([stands(1), large, stands(3)])
    assert await offsets(database_pool) == ["1-0", "9-0", "2-0", "3-0"]
    found = await database_pool.fetchval(
        "SELECT length(body) FROM dead_letters WHERE log_offset = '2-0'"
    )
    assert found == len(large.body)


async def test_the_indexer_goes_on_behind_them(start, transport, database_pool, eventually):
    """On the real log: the worker's own letters, of records with ids out of all bounds."""
    odd = json.loads(ODD["a long conversation"]["body"])
    body = json.dumps(odd).encode()
    await transport.dead_letter(
        [
            DeadLetter(raw_record(body), Reason.REJECTED, "why", 3, "0001-01-01T00:00:00+23:59"),
            DeadLetter(record(message()), Reason.REJECTED, "why", 3, timestamp(2.0**64)),
        ]
    )
    start(DeadLetterIndexer, member="i1")

    async def indexed() -> bool:
        return await lag(transport, Topic.DEAD_LETTERS) == 0

    await eventually(indexed)
    assert len(await offsets(database_pool)) == 2


async def test_letters_that_an_earlier_release_listed_are_not_taken_for_lost(
    start, transport, transport_settings, database_pool, eventually
):
    """It kept no position, and Redis has trimmed the first of them since."""
    letters = [record(message("a")), raw_record(b"{}")]
    await transport.dead_letter(
        [DeadLetter(letter, Reason.REJECTED, "why", 3, timestamp(1.0)) for letter in letters]
    )
    earlier = start(DeadLetterIndexer, member="i1")

    async def indexed() -> bool:
        return await lag(transport, Topic.DEAD_LETTERS) == 0

    await eventually(indexed)
    await earlier.stop()
    await database_pool.execute("DELETE FROM log_positions")
    first, last = await offsets(database_pool)
    async with Redis(
        host=transport_settings.redis_host,
        port=transport_settings.redis_port,
        db=transport_settings.redis_stream_db,
    ) as redis:
        await redis.xdel("msg:dlq", first)
    upgraded = start(DeadLetterIndexer, member="i2")

    async def known() -> bool:
        return await database_pool.fetchval("SELECT through FROM log_positions") == last

    await eventually(known)
    assert await offsets(database_pool) == [first, last]
    assert value_of(upgraded.metrics.of(PositionMetrics).rows_lost.labels("redis")) == 0


_NAMES = st.one_of(
    st.sampled_from(
        [
            "__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset",
            "__connect.errors.exception.message", "crossfade.topic", "crossfade.reason",
            "crossfade.attempts", "crossfade.failedAt", "crossfade.appendedAt",
            "crossfade.redrives", "messageId", "mirrorOf", "shadowMode",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip
_VALUES = st.one_of(
    st.binary(max_size=40),
    st.integers(-(2**80), 2**80).map(lambda number: str(number).encode()),
    st.datetimes().map(lambda moment: moment.isoformat().encode()),
    st.sampled_from(
        [b"messages", b"dead_letters", b"rejected", b"0001-01-01T00:00:00+23:59", b"redis:1-0"]
    ),
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "receipt"]),
        "v": st.just(1),
        "conversationId": st.one_of(st.text(), st.just(LONG), _JSON),
        "senderId": st.text(),
        "clientMessageId": st.text(),
        "content": st.text(),
        "contentType": st.text(),
    },
    optional={"messageId": st.one_of(st.text(), st.uuids().map(str)), "acceptedAt": st.text()},
)
_BODIES = st.one_of(
    st.binary(max_size=60),
    st.one_of(_JSON, _MESSAGES).map(lambda value: json.dumps(value).encode()),
)
_LETTERS = st.lists(
    st.tuples(
        _BODIES,
        st.binary(max_size=20).map(lambda key: key.decode("utf-8", "surrogateescape")),
        st.dictionaries(_NAMES, _VALUES, max_size=8),
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**64)),
    ),
    min_size=1,
    max_size=8,
)


def _fuzzed(examples: int):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


async def _all_are_listed(pool, transport: str, letters) -> None:
    await pool.execute("TRUNCATE dead_letters")
    index = DeadLetterIndex(pool, transport, Metrics())
    await index.position.read("log-1")
    records = [
        Record(Topic.DEAD_LETTERS, 0, f"{number}", key, body, headers, at)
        for number, (body, key, headers, at) in enumerate(letters)
    ]
    await index.add(records)
    rows = await pool.fetch(
        "SELECT log_offset, record_key, body, header_names FROM dead_letters ORDER BY id"
    )
    stood = {row["log_offset"]: row for row in rows}
    for dead in records:
        # Two that say they are the same dead record, with the same bytes, are one letter.
        row = stood.get(dead.offset)
        assert row is not None or any(row["body"] == dead.body for row in rows)
        if row is not None:
            assert row["body"] == dead.body
            assert row["record_key"] == dead.key.encode("utf-8", "surrogateescape")
    listed = await DeadLetters(pool).list(state=None, limit=1000)
    assert len(listed) == len(rows)


@pytest.mark.parametrize("transport", ["redis", "kafka"])
@_fuzzed(30)
@given(letters=_LETTERS)
async def test_whatever_stands_in_the_log_is_listed(database_pool, transport, letters):
    await _all_are_listed(database_pool, transport, letters)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", ["redis", "kafka"])
@_fuzzed(5000)
@given(letters=_LETTERS)
async def test_whatever_stands_in_the_log_is_listed_at_length(database_pool, transport, letters):
    await _all_are_listed(database_pool, transport, letters)


async def test_sessions_that_are_cut_cost_no_letter_a_part_of_it(
    index, metrics, database_pool, database_url
):
    """What the driver makes of a session that ends in a statement is no fault of a letter."""
    done = asyncio.Event()
    cutting = asyncio.create_task(_cut_sessions(database_url, done))
    try:
        for number in range(0, 80, 4):
            await _added(index, [stands(number + n, key=f"k{n}") for n in range(4)])
    finally:
        done.set()
        await cutting
    assert lacking(metrics) == {}
    assert len(await offsets(database_pool)) == 80


async def _added(index, letters: list[Record]) -> None:
    while True:
        try:
            return await index.add(letters)
        except Outage:
            continue


async def _cut_sessions(database_url: str, done: asyncio.Event) -> None:
    own = await asyncpg.connect(database_url)
    while not done.is_set():
        await own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.02)  # the interval of the fault
    await own.close()
