"""What the protocol allows and our own producer never writes, and topics that were altered."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from compose.process.health import worker_probe
from persistence.database.pool import Pool
from tests.support.eventually import eventually
from tests.support.kafka import alter_topic
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.kafka_internals import partitions_expected
from tests.support.record_batches import Raw, RawProducer, encode_batch
from transport.conformance.envelopes import message
from transport.contract import READ_BYTES, Appended, Record, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_KIB, _MIB = 1024, 1024 * 1024


async def _alter(settings: TransportSettings, **config: str) -> None:
    names = {name.replace("_", "."): value for name, value in config.items()}
    await alter_topic(settings.kafka_bootstrap_servers, settings.kafka_topic, names)


async def _set_partitions(settings: TransportSettings, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    await admin.create_partitions({settings.kafka_topic: NewPartitions(count)})
    await admin.close()


async def test_odd_records_between_good_ones(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """A message is a row whatever its key, its headers or its partition are."""
    rows = [
        good("c", 1),
        good("no key", 2)._replace(key=None),
        good("huge key", 3)._replace(key=b"\xff" * _MIB),
        good("wrong partition", 4),
        good("lies", 5)._replace(headers=((b"messageId", b"not this one"),)),
        good("twice", 6)._replace(headers=((b"a", b"1"), (b"a", b"2"), (b"a", None))),
        good("attributes", 7)._replace(attributes=0x7F),
        good("high attributes", 8)._replace(attributes=0xFF),
        good("many headers", 9)._replace(headers=[(b"h%d" % i, b"") for i in range(10_000)]),
        good("ours", 10)._replace(headers=((b"crossfade.failedAt", b"never"), (b"", None))),
    ]
    dead = [
        Raw(key=b"tombstone", value=None),
        Raw(key=None, value=None),
        Raw(key=b"", value=b""),
        Raw(key=None, value=b"{}", headers=((b"crossfade.failedAt", b"never"), (b"", b""))),
    ]
    topic = kafka_settings.kafka_topic
    for record in [*rows, *dead, good("c", 11)]:
        await producer.append(topic, 0, encode_batch([record]))
    await producer.append(topic, 1, encode_batch([*rows[3:], *dead], compression="snappy"))
    await site.settled()
    assert sorted(await site.rows()) == sorted(f"good {number}" for number in range(1, 12))
    assert [letter["reason"] for letter in await site.letters()] == ["undecodable"] * 8


async def test_a_record_that_aiokafka_puts_elsewhere_hides_no_other(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """With a high bit in its attributes, the length of its key passes for its offset: 63 on."""
    key = b"\x01\x7c" + bytes(61)
    far = Raw(key=key, value=None, attributes=0xFF, timestamp_delta=1)
    topic = kafka_settings.kafka_topic
    await producer.append(topic, 0, encode_batch([good("c", 1), far, good("c", 2)]))
    for number in range(3, 6):
        await producer.append(topic, 0, encode_batch([far]))
        await producer.append(topic, 0, encode_batch([good("c", number)]))
    await site.settled()
    assert await site.rows() == [f"good {number}" for number in range(1, 6)]
    letters = await site.letters()
    assert [bytes(letter["record_key"]) for letter in letters] == [key] * 4
    assert [letter["source_offset"] for letter in letters] == ["1", "3", "5", "7"]


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62])
async def test_any_timestamp_where_somebody_lets_producers_give_it(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings, timestamp: int
) -> None:
    """The topic is made with ``LogAppendTime``; this one was altered."""
    await _alter(
        kafka_settings,
        message_timestamp_type="CreateTime",
        message_timestamp_after_max_ms=str(2**63 - 1),
    )
    batch = encode_batch([good("c", 1), Raw(value=b"no JSON"), good("c", 2)], timestamp=timestamp)
    await producer.append(kafka_settings.kafka_topic, 0, batch)
    await site.settled()
    assert await site.rows() == ["good 1", "good 2"]
    assert len(await site.letters()) == 1


async def _pages(log: KafkaTransport) -> list[list[Record]]:
    """Read the first partition to its end, and return what each read returned."""
    pages: list[list[Record]] = []
    after = None
    while page := await log.read(Topic.MESSAGES, 0, after=after):
        pages.append(list(page))
        after = page[-1].offset
    return pages


async def test_keys_and_headers_count_in_what_a_read_returns(
    kafka_transport: KafkaTransport, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """Keys of 64 KiB with hardly a body: not all of them are in memory at once."""
    batch = encode_batch([Raw(key=b"k" * 64 * _KIB, value=b"") for _ in range(16)])
    for _ in range(20):
        await producer.append(kafka_settings.kafka_topic, 0, batch)
    pages = await _pages(kafka_transport)
    assert sum(map(len, pages)) == 320
    for page in pages:
        assert sum(len(record.key) for record in page[:-1]) < READ_BYTES


async def test_batches_that_are_small_until_unpacked_are_returned_a_few_at_a_time(
    kafka_transport: KafkaTransport, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """One fetch of a megabyte brings hundreds that are 16 MiB each."""
    batch = encode_batch([Raw(value=bytes(16 * _MIB))], compression="zstd")
    for _ in range(40):
        await producer.append(kafka_settings.kafka_topic, 0, batch)
    assert [len(page) for page in await _pages(kafka_transport)] == [1] * 40


async def test_partitions_that_were_added_by_hand_are_persisted_and_told_of(
    kafka_settings: TransportSettings, producer: RawProducer, database_pool: Pool
) -> None:
    """We never write there; a producer that goes by the number of partitions does."""
    async with KafkaTransport(kafka_settings):
        pass
    await _set_partitions(kafka_settings, 4)
    for number in (1, 2):
        async with (
            KafkaTransport(kafka_settings) as transport,
            KafkaConsumers.running(transport, database_pool) as site,
        ):
            batch = encode_batch([good("c", number)])
            await producer.append(kafka_settings.kafka_topic, 3, batch)
            await eventually(lambda site=site, n=number: _has(site, n))
            state = worker_probe(site.worker, required=True)()
            assert (state.status, "STREAM_PARTITIONS: 2, 3 are" in state.detail) == (
                "degraded",
                True,
            )
            await transport.ping()
    repeats = site.metrics.registry.get_sample_value(
        "stream_consumer_processed_total", {"status": "duplicate"}
    )
    assert not repeats, "what was acknowledged before is not read again"


async def _has(site: KafkaConsumers, count: int) -> bool:
    return len(await site.rows()) == count


async def test_a_topic_with_too_few_partitions_is_not_ready_until_it_has_them(
    kafka_settings: TransportSettings,
) -> None:
    """Deleted and made by hand, say. What is refused meanwhile is refused before it is sent."""
    fewer = kafka_settings.model_copy(update={"stream_partitions": 1})
    async with KafkaTransport(fewer):
        pass
    wanted = kafka_settings
    transport = KafkaTransport(wanted)
    async with AsyncExitStack() as stack:
        with partitions_expected(transport, 1):  # as one that was started before it happened
            await stack.enter_async_context(transport)
        with pytest.raises(TransportUnavailable, match=r"has 1 partitions, and 2 are needed"):
            await transport.ping()
        envelopes = [message("one", partition=p, of=transport) for p in (0, 1)]
        (kept, refused) = await transport.publish(envelopes)
        assert isinstance(kept, Appended)
        assert isinstance(refused, TransportUnavailable)
        await _set_partitions(wanted, 2)

        async def well() -> bool:
            with suppress(TransportUnavailable):  # the broker hears of it from its controller
                await transport.ping()
                return all(
                    isinstance(outcome, Appended) for outcome in await transport.publish(envelopes)
                )
            return False

        await eventually(well)
        assert len(await transport.read(Topic.MESSAGES, 1)) == 1
