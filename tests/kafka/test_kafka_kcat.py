"""Other people's clients agree: kcat (librdkafka) places, reads and writes as we do."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.first_records import first_records
from tests.support.requirements import program
from transport.conformance.envelopes import message
from transport.kafka import KafkaTransport
from transport.message.envelope import CONTENT_TYPE, Message, decode
from transport.message.identity import idempotency_key, message_id
from transport.message.partitioner import partition_for
from transport.settings import TransportSettings


@pytest.fixture(autouse=True)
def _kcat_is_there() -> None:
    program("kcat", package="kcat")


async def _kcat(servers: str, *arguments: str, given: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        "kcat", "-b", servers, "-q", *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(given.encode()), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_kcat_places_every_key_where_we_do(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    """With the Java client's partitioner; librdkafka's own default, CRC-32, places otherwise."""
    keys = [f"conversation-{i}" for i in range(500)]
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    lines = "".join(f"{key}\t-\n" for key in keys)
    murmur2 = ("-X", "topic.partitioner=murmur2_random")
    await _kcat(servers, "-P", "-t", topic, "-K", "\t", *murmur2, given=lines)
    placed = await _kcat(servers, "-C", "-t", topic, "-o", "beginning", "-e", "-f", "%k %p\n")
    found = dict(line.rsplit(" ", 1) for line in placed.splitlines())
    partitions = kafka_transport.partitions
    assert {key: int(p) for key, p in found.items()} == {
        key: partition_for(key, partitions) for key in keys
    }


async def test_kcat_reads_key_headers_and_body(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    sent = message("for everybody", partition=3, of=kafka_transport)
    await kafka_transport.publish([sent])
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    (line,) = (await _kcat(servers, "-C", "-t", topic, "-o", "beginning", "-e", "-J")).splitlines()
    read = json.loads(line)
    assert (read["partition"], read["key"], read["payload"]) == (3, sent.key, sent.body.decode())
    assert dict(zip(*[iter(read["headers"])] * 2, strict=True)) == sent.headers


async def test_a_message_of_kcat_is_one_like_any_other(
    kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    body = {
        "type": "message", "v": 1, "conversationId": "conversation-kcat", "senderId": "kcat",
        "clientMessageId": "1", "content": "from afar", "contentType": "text",
    }  # fmt: skip
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    where = partition_for("conversation-kcat", kafka_transport.partitions)
    await _kcat(
        servers, "-P", "-t", topic, "-p", str(where), "-K", "\t",
        "-H", f"contentType={CONTENT_TYPE}",
        given=f"conversation-kcat\t{json.dumps(body)}\n",
    )  # fmt: skip
    (record,) = await first_records(kafka_transport, 1, partition=where)
    event = decode(record)
    assert isinstance(event, Message)
    assert event.message_id == message_id(
        idempotency_key("kcat", "conversation-kcat", "1"), "conversation-kcat"
    )
