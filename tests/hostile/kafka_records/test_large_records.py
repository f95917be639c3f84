"""Records that are larger than any batch that carried them, or than the dead-letter topic takes."""

from __future__ import annotations

import json
import random
from hashlib import sha256

import cramjam
import pytest

from persistence.dead_letters.republish import republish
from tests.support.kafka import alter_topic
from tests.support.kafka_consumers import KafkaConsumers, good
from tests.support.record_batches import Raw, RawProducer, encode_batch
from transport.contract import Topic
from transport.kafka.administration.topics import MAX_RECORD_BYTES
from transport.settings import TransportSettings

_MIB = 1024 * 1024


def _noise(size: int) -> bytes:
    return random.Random(13).randbytes(size)


async def _between_good_ones(
    site: KafkaConsumers, producer: RawProducer, topic: str, batch: bytes
) -> None:
    """Append a batch between two messages; return when all is settled and those two are rows."""
    before, after = (encode_batch([good("c", number)]) for number in (1, 2))
    for encoded in (before, batch, after):
        await producer.append(topic, 0, encoded)
    await site.settled()
    assert await site.rows() == ["good 1", "good 2"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_what_fits_only_compressed_is_a_whole_dead_letter(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings, compression: str
) -> None:
    """Six MiB that were a few kilobytes on the way: the letter is compressed too."""
    value = b"no JSON " * (6 * _MIB // 8)
    batch = encode_batch([Raw(value=value)], compression=compression)
    assert len(batch) < MAX_RECORD_BYTES
    await _between_good_ones(site, producer, kafka_settings.kafka_topic, batch)
    (letter,) = await site.letters()
    assert bytes(letter["body"]) == value
    assert letter["reason"] == "undecodable"


async def test_what_does_not_fit_even_so_is_cut_and_says_where_the_whole_is(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """Its producer compressed better than we do: 7.5 MiB, of which 2.5 are not repetition."""
    value = _noise(5 * _MIB // 2) * 3
    headers = ((b"first", b"1"), (b"\xff", b"odd"), (b"large", _noise(100_000)))
    record = Raw(key=b"a key", value=value, headers=headers)
    batch = encode_batch(
        [record],
        compression="zstd",
        compress=lambda data: bytes(cramjam.zstd.compress(data, level=19)),
    )
    topic = kafka_settings.kafka_topic
    await _between_good_ones(site, producer, topic, batch)
    (letter,) = await site.letters()
    body = bytes(letter["body"])
    assert bytes(letter["record_key"]) == b"a key"
    assert value.startswith(body)
    assert len(body) > 3 * _MIB
    kept = dict(zip(letter["header_names"], letter["header_values"], strict=True))
    assert [kept[name] for name, _ in headers] == [value for _, value in headers]
    assert json.loads(kept[b"crossfade.cut"]) == {
        "keyBytes": 5,
        "valueBytes": len(value),
        "valueSha256": sha256(value).hexdigest(),
        "headers": 3,
    }
    assert f"the whole record is at {topic}-0, offset 1" in letter["error"]
    (whole,) = await site.transport.read(Topic.MESSAGES, 0, after="0", limit=1)
    assert whole.body == value
    attempt = await republish(site.transport, [letter])
    assert (attempt.appended, attempt.failed) == ([], [letter["id"]])
    assert "cut" in str(attempt.error)


async def test_a_hundred_thousand_headers_are_kept_in_a_dead_letter(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    """What says how long each is takes as much room as they do, and counts."""
    headers = [(b"h%06d" % number, b"v") for number in range(120_000)]
    batch = encode_batch([Raw(value=b"no JSON", headers=headers)])
    assert len(batch) < MAX_RECORD_BYTES
    await _between_good_ones(site, producer, kafka_settings.kafka_topic, batch)
    (letter,) = await site.letters()
    assert len(letter["header_names"]) == len(headers)


async def test_a_dead_letter_topic_that_somebody_made_smaller_gets_smaller_letters(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings
) -> None:
    await alter_topic(
        kafka_settings.kafka_bootstrap_servers,
        kafka_settings.kafka_dlq_topic,
        {"max.message.bytes": "200000"},
    )
    batch = encode_batch([Raw(key=b"k", value=_noise(_MIB))])
    await _between_good_ones(site, producer, kafka_settings.kafka_topic, batch)
    (letter,) = await site.letters()
    assert 50_000 < len(letter["body"]) < 200_000


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
async def test_a_batch_that_would_fill_the_memory_is_one_dead_letter_as_it_stands(
    site: KafkaConsumers, producer: RawProducer, kafka_settings: TransportSettings, compression: str
) -> None:
    """A thousand times its own size: no reader unpacks it."""
    batch = encode_batch([Raw(value=bytes(64 * _MIB))], compression=compression)
    assert len(batch) < MAX_RECORD_BYTES
    await _between_good_ones(site, producer, kafka_settings.kafka_topic, batch)
    (letter,) = await site.letters()
    assert bytes(letter["body"])[61:] == batch[61:], "its records, still compressed"
    kept = dict(zip(letter["header_names"], letter["header_values"], strict=True))
    assert json.loads(kept[b"crossfade.batch"]) == {"records": 1, "compression": compression}
    assert "can't be unpacked" in letter["error"]
