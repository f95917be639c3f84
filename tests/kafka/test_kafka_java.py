"""Other people's clients agree: the plain Java client places, reads and writes as we do."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from compose.local import class_archive
from compose.local.kafka_jars import find_java, kafka_jars
from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Topic
from transport.kafka import KafkaTransport
from transport.message.envelope import CONTENT_TYPE, Message, decode
from transport.message.identity import idempotency_key, message_id
from transport.message.partitioner import partition_for
from transport.settings import TransportSettings

_SOURCE = Path(__file__).with_name("Clients.java")
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m")

Java = Callable[..., Awaitable[list[str]]]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Java:
    """Run ``Clients``, compiled, with arguments and lines of input; return its lines of output."""
    folder = tmp_path_factory.mktemp("java")
    found, jars = find_java(), kafka_jars()
    compiler = [found.tool("javac"), *(f"-J{option}" for option in _QUICK)]
    subprocess.run([*compiler, "-cp", f"{jars}/*", "-d", folder, _SOURCE], check=True)
    command = [
        str(found.path), *_QUICK, *class_archive.use(found, jars),
        "-cp", f"{jars}/*{os.pathsep}{folder}", "Clients",
    ]  # fmt: skip

    async def run(*arguments: str, lines: Sequence[str] = ()) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        given = "".join(f"{line}\n" for line in lines).encode()
        out, err = await asyncio.wait_for(process.communicate(given), 90)
        assert process.returncode == 0, err.decode()
        return out.decode().splitlines()

    return run


@pytest.mark.parametrize("partitions", [12, 15, 16])
async def test_the_java_client_places_every_key_where_we_do(
    java: Java, kafka_settings: TransportSettings, partitions: int
) -> None:
    settings = kafka_settings.model_copy(update={"stream_partitions": partitions})
    keys = [f"conversation-{i}" for i in range(300)]
    keys += ["a" * n for n in range(1, 60)] + [
        f"\u0434\u0456\u0430\u043b\u043e\u0433-{i}" for i in range(60)
    ]
    async with KafkaTransport(settings):
        servers, topic = settings.kafka_bootstrap_servers, settings.kafka_topic
        placed = await java("place", servers, topic, lines=keys)
    assert [int(p) for p in placed] == [partition_for(key, partitions) for key in keys]


async def test_a_plain_java_consumer_reads_key_headers_and_body(
    java: Java, kafka_settings: TransportSettings, kafka_transport: KafkaTransport
) -> None:
    sent = message("for everybody", partition=3, of=kafka_transport)
    await kafka_transport.publish([sent])
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    (line,) = await java("consume", servers, topic, "1")
    partition, key, headers, body = line.split("\t")
    assert int(partition) == 3
    assert base64.b64decode(key).decode() == sent.key
    assert base64.b64decode(body) == sent.body
    pairs = (header.split("=", 1) for header in headers.split(","))
    assert {name: base64.b64decode(value).decode() for name, value in pairs} == sent.headers


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_a_message_of_the_java_client_is_one_like_any_other(
    java: Java, kafka_settings: TransportSettings, kafka_transport: KafkaTransport, compression: str
) -> None:
    body = {
        "type": "message",
        "v": 1,
        "conversationId": "conversation-java",
        "senderId": "java",
        "clientMessageId": "1",
        "content": "from afar " * 40,
        "contentType": "text",
    }
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    line = f"conversation-java\t{json.dumps(body)}"
    await java("produce", servers, topic, compression, CONTENT_TYPE, lines=[line])
    where = partition_for("conversation-java", kafka_transport.partitions)
    (record,) = await first_records(kafka_transport, 1, partition=where)
    assert (record.topic, record.key) == (Topic.MESSAGES, "conversation-java")
    assert record.headers["contentType"].decode() == CONTENT_TYPE
    event = decode(record)
    assert isinstance(event, Message)
    assert event.content == body["content"]
    assert event.message_id == message_id(
        idempotency_key("java", "conversation-java", "1"), "conversation-java"
    )


async def test_a_message_of_the_java_client_is_persisted_like_any_other(
    java: Java,
    kafka_settings: TransportSettings,
    kafka_transport: KafkaTransport,
    database_pool: Pool,
) -> None:
    """And a key that is sent twice, once with every field and once with the least, is one row."""
    least = {
        "type": "message", "v": 1, "conversationId": "conversation-java", "senderId": "java",
        "clientMessageId": "2", "content": "kept", "contentType": "text",
    }  # fmt: skip
    identifier = message_id(idempotency_key("java", "conversation-java", "2"), "conversation-java")
    whole = {**least, "messageId": identifier, "correlationId": "order:7"}
    lines = [f"conversation-java\t{json.dumps(body)}" for body in (whole, least)]
    servers, topic = kafka_settings.kafka_bootstrap_servers, kafka_settings.kafka_topic
    await java("produce", servers, topic, "none", CONTENT_TYPE, lines=lines)
    stop = asyncio.Event()
    worker = Worker(
        transport=kafka_transport, pool=database_pool, settings=PersistenceSettings(),
        metrics=Metrics(), member="test",
    )  # fmt: skip
    working = asyncio.create_task(worker.run(stop))

    async def settled() -> bool:
        progress = await kafka_transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return [part.lag for part in progress] == [0] * kafka_transport.partitions

    await eventually(settled)
    stop.set()
    await working
    rows = await database_pool.fetch("SELECT id, content, correlation_id FROM messages")
    assert [(str(r["id"]), r["content"], r["correlation_id"]) for r in rows] == [
        (identifier, "kept", "order:7")
    ]
