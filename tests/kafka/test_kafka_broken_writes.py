"""Kafka's connections on the loop that processes use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Schema

from compose.loop import new_event_loop
from tests.support.kafka_internals import abort
from transport.kafka.client.requests import OneVersion
from transport.settings import TransportSettings


def test_a_write_after_the_end_is_a_broken_connection(kafka_settings: TransportSettings) -> None:
    """The loop raises ``RuntimeError``, which would end an append's task without an outcome."""
    host, _, port = kafka_settings.kafka_bootstrap_servers.partition(":")

    async def outcome() -> Any:
        connection = await create_conn(host, int(port))
        told = asyncio.get_running_loop().create_future()

        def write() -> None:
            try:
                told.set_result(connection.send(MetadataRequest([])))
            except Exception as error:  # noqa: BLE001 - which one it is, is the question
                told.set_result(error)

        abort(connection)
        asyncio.get_running_loop().call_soon(write)  # before the client has seen the end
        try:
            return await told
        finally:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        told = runner.run(outcome())
    assert isinstance(told, KafkaConnectionError)
    assert isinstance(told.__cause__, RuntimeError), "on the way that is meant"


class _UnknownResponse(Response):
    API_KEY = 10_000
    API_VERSION = 0
    SCHEMA = Schema()


class _Unknown(RequestStruct):
    FLEXIBLE_VERSION = False
    API_KEY = 10_000
    API_VERSION = 0
    RESPONSE_TYPE = _UnknownResponse
    SCHEMA = Schema()


async def test_a_request_that_the_broker_does_not_support_breaks_no_connection(
    kafka_settings: TransportSettings,
) -> None:
    """Aiokafka's errors are a ``RuntimeError`` too, and older brokers lack some requests."""
    host, _, port = kafka_settings.kafka_bootstrap_servers.partition(":")
    connection = await create_conn(host, int(port))
    try:
        with pytest.raises(IncompatibleBrokerVersion):
            await connection.send(OneVersion(_Unknown))
        assert connection.connected()
    finally:
        connection.close()
