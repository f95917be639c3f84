"""Any records as they may stand in the log, between good ones: each stops only itself.

What hypothesis draws is not a message but a batch: compressed or not, of a transaction or not, its
records' keys, values and headers any bytes. Every record has to be a row, a dead letter or (of a
transaction that was aborted) passed over; every good one a row; and the lag has to come to nothing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from compose.local.kafka import KafkaServer
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.support.kafka import fresh_settings
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.record_batches import CODECS, Raw, RawProducer, encode_batch
from transport.kafka import KafkaTransport

_numbers = count(1)

_bytes = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(0, 300_000).map(bytes),
)
_names = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"messageId", b"correlationId", b"traceparent", b"tracestate", b"contentType",
            b"mirrorOf", b"shadowMode", b"crossfade.redrives", b"crossfade.failedAt",
            b"crossfade.topic", b"crossfade.reason", b"crossfade.attempts", b"crossfade.cut",
            b"crossfade.batch", b"__connect.errors.offset", b"__connect.errors.partition",
        ]
    ),
)  # fmt: skip
_header_values = st.one_of(
    _bytes,
    st.sampled_from(
        [b"00-" + b"f" * 32 + b"-" + b"0" * 16 + b"-01", b"kafka:0", b"-1", b"9" * 400, b"sync"]
    ),
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def _nearly_messages(draw: st.DrawFn) -> bytes:
    """Draw a body with one or two members that are not as they should be."""
    body: dict[str, Any] = json.loads(good("fuzz", next(_numbers)).value or b"")
    names = st.sampled_from([*body, "messageId", "idempotencyKey", "acceptedAt", "correlationId"])
    for _ in range(draw(st.integers(0, 2))):
        body[draw(names)] = draw(_json)
    return json.dumps(body).encode()


_values = st.one_of(_bytes, _nearly_messages(), _json.map(lambda one: json.dumps(one).encode()))
_records = st.builds(
    Raw,
    key=_bytes,
    value=_values,
    headers=st.lists(st.tuples(_names, _header_values), max_size=6),
    attributes=st.integers(0, 255),
    timestamp_delta=st.integers(-(2**40), 2**40),
)


class _Batch(NamedTuple):
    records: list[Raw]
    compression: str
    timestamp: int
    end: str
    """What becomes of it: it is no transaction's, or one that commits or aborts."""


_batches = st.builds(
    _Batch,
    records=st.lists(_records, min_size=1, max_size=5),
    compression=st.sampled_from(list(CODECS)),
    timestamp=st.sampled_from([-1, 0, 1_700_000_000_000, 2**62]),
    end=st.sampled_from(["", "", "", "commit", "abort"]),
)


@pytest_asyncio.fixture
async def running(
    kafka_server: KafkaServer, database_url: str
) -> AsyncIterator[tuple[KafkaConsumers, Any]]:
    settings = fresh_settings(kafka_server.bootstrap, stream_partitions=2, kafka_timeout_ms=5000)
    pool = await connect(PersistenceSettings(database_url=database_url))
    try:
        async with (
            KafkaTransport(settings) as transport,
            KafkaConsumers.running(transport, pool) as site,
        ):
            yield site, settings
    finally:
        await pool.close()


async def _write(
    producer: RawProducer, topic: str, batches: list[_Batch], run: int
) -> tuple[list[str], int]:
    """Append the batches, good messages around each; return those and how many are to be told."""
    sent, told = [], 0

    async def append_good(partition: int) -> None:
        number = next(_numbers)
        one = good(f"good-{run}-{partition}", number)
        sent.append(f"good {number}")
        await producer.append(topic, partition, encode_batch([one]))

    for number, batch in enumerate(batches):
        partition = number % 2
        await append_good(partition)
        how: dict[str, Any] = {"compression": batch.compression, "timestamp": batch.timestamp}
        if batch.end:
            commit = batch.end == "commit"
            await producer.transact(topic, partition, batch.records, commit=commit, **how)
        else:
            await producer.append(topic, partition, encode_batch(batch.records, **how))
        told += 0 if batch.end == "abort" else len(batch.records)
        await append_good(partition)
    return sent, told


def _count(site: KafkaConsumers, status: str) -> float:
    name = "stream_consumer_processed_total"
    return site.metrics.registry.get_sample_value(name, {"status": status}) or 0.0


async def _fuzz(
    site: KafkaConsumers, topic: str, producer: RawProducer, batches: list[_Batch]
) -> None:
    before = {s: _count(site, s) for s in ("persisted", "duplicate", "dead_lettered")}
    letters = await site.pool.fetchval("SELECT count(*) FROM dead_letters")
    sent, told = await _write(producer, topic, batches, next(_numbers))
    await site.settled()
    rows = set(await site.rows())
    assert not [content for content in sent if content not in rows], "a good neighbour is no row"
    after = {s: _count(site, s) - before[s] for s in before}
    assert sum(after.values()) >= told + len(sent), "a record is nothing: no row, no dead letter"
    found = await site.pool.fetchval("SELECT count(*) FROM dead_letters") - letters
    copies = sum(
        any(name == b"mirrorOf" for name, _ in record.headers)
        for batch in batches
        for record in batch.records
    )  # of one original one letter is kept
    assert found >= after["dead_lettered"] - copies, "a dead letter is not listed"
    assert not site.worker.status().paused


@pytest.fixture
def drawn(request: pytest.FixtureRequest) -> list[list[_Batch]]:
    """Draw before anything runs: hypothesis forbids that others meanwhile use Python's dice."""
    found: list[list[_Batch]] = []

    @settings(
        max_examples=request.param,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(_batches, min_size=1, max_size=8))
    def draw(batches: list[_Batch]) -> None:
        found.append(batches)

    with warnings.catch_warnings():
        # On Python 3.14 hypothesis warns of its own random generator.
        warnings.simplefilter("ignore", HypothesisWarning)
        draw()
    return found


async def _fuzz_each(
    drawn: list[list[_Batch]], running: tuple[KafkaConsumers, Any], producer: RawProducer
) -> None:
    site, of_site = running
    for number, batches in enumerate(drawn):
        try:
            await _fuzz(site, of_site.kafka_topic, producer, batches)
        except BaseException as error:
            error.add_note(f"example {number}: {batches!r}"[:20_000])
            raise


@pytest.mark.parametrize("drawn", [25], indirect=True)
async def test_any_record_stops_only_itself(
    drawn: list[list[_Batch]], running: tuple[KafkaConsumers, Any], producer: RawProducer
) -> None:
    await _fuzz_each(drawn, running, producer)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drawn", [2000], indirect=True)
async def test_very_many_records_stop_only_themselves(
    drawn: list[list[_Batch]], running: tuple[KafkaConsumers, Any], producer: RawProducer
) -> None:
    await _fuzz_each(drawn, running, producer)
