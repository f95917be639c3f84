"""A stranger at Kafka's address for a while: its answers are no Kafka's."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka_internals import producer_of, replace_producer
from transport.conformance.envelopes import message
from transport.contract import Appended, Outcome, Topic
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport

_CORRELATION = slice(8, 12)
_HEAD = struct.Struct(">i4s")


@asynccontextmanager
async def _answering(port: int, body: bytes) -> AsyncIterator[list[int]]:
    """Answer each request with ``body``; the list gets one item for each."""
    answered: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65_536):
            answered.append(len(request))
            writer.write(_HEAD.pack(4 + len(body), request[_CORRELATION]) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield answered
    finally:
        server.close()


@pytest.mark.parametrize("body", [b"", b"\xff" * 200], ids=["empty", "ones"])
async def test_appends_and_requests_recover_once_kafka_is_back(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport, body: bytes
) -> None:
    """Aiokafka raises errors of no class of its own, and who tries again must not end by them."""
    await kafka_server.kill()
    try:
        async with _answering(kafka_server.port, body) as answered:
            replace_producer(kafka_transport)
            await eventually(lambda: len(answered) > 4)
            for ask in (kafka_transport.ping, kafka_transport.identity):
                with pytest.raises(TransportUnavailable):
                    await ask()
    finally:
        await kafka_server.start()

    async def appended() -> bool:
        envelope = message("after", partition=0, of=kafka_transport)
        return isinstance((await kafka_transport.publish([envelope]))[0], Appended)

    await eventually(appended)
    await eventually(lambda: _read(kafka_transport))


@pytest.mark.parametrize("body", [b"", b"\xff" * 200], ids=["empty", "ones"])
async def test_a_producer_outlives_a_stranger_at_its_broker_s_address(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport, body: bytes
) -> None:
    """Its client connects again by itself: replacing the producer would take much longer."""
    assert isinstance(await _append(kafka_transport), Appended)
    producer = producer_of(kafka_transport)
    await kafka_server.kill()
    try:
        async with _answering(kafka_server.port, body) as answered:
            await _append(kafka_transport)
            await eventually(lambda: len(answered) > 4)
    finally:
        await kafka_server.start()

    async def appended() -> bool:
        return isinstance(await _append(kafka_transport), Appended)

    await eventually(appended)
    assert producer_of(kafka_transport) is producer


async def _append(transport: KafkaTransport) -> Outcome:
    (outcome,) = await transport.publish([message("text", partition=0, of=transport)])
    return outcome


async def _read(transport: KafkaTransport) -> bool:
    try:
        return len(await transport.read(Topic.MESSAGES, 0)) > 0
    except TransportUnavailable:
        return False
