"""Clients that do not close delay nothing else."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from tests.support.eventually import eventually
from transport.errors import TransportUnavailable
from transport.kafka.connection.client_pool import ClientPool
from transport.kafka.connection.closing import discard_admin, discard_consumer, discard_producer
from transport.kafka.connection.connection import Connector
from transport.settings import TransportSettings


async def _never() -> None:
    await asyncio.Event().wait()


def _stuck() -> Any:
    """Return a client, of whichever kind, whose connections wait for a broker that is gone."""
    connections = SimpleNamespace(close=_never)
    return SimpleNamespace(
        close=_never,
        stop=_never,
        _client=connections,
        _coordinator=None,
        _fetcher=None,
        fail_all=lambda: None,
    )


@pytest.mark.parametrize("discard", [discard_admin, discard_consumer, discard_producer])
async def test_a_client_that_will_not_close_is_left(
    discard: Callable[..., Awaitable[None]],
) -> None:
    async with asyncio.timeout(5):
        await discard(_stuck(), within=0.05)


async def test_a_request_is_answered_though_the_last_client_will_not_close() -> None:
    """Seen when two of three nodes died: the watchdog for stalls waited for ever itself."""

    async def connect() -> Any:
        return _stuck()

    async def refused(_: Any) -> None:
        raise KafkaConnectionError("gone")

    client_pool = ClientPool(connect, partial(discard_admin, within=0.05), timeout=0.5)
    async with asyncio.timeout(5):
        with pytest.raises(TransportUnavailable):
            await client_pool.ask(refused)


def _connected() -> int:
    """Return how many clients of aiokafka live: each has a task that keeps its metadata fresh."""
    return sum("_md_synchronizer" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_client_whose_caller_gives_up_while_it_connects_is_closed(
    kafka_settings: TransportSettings,
) -> None:
    """Health and lag ask within a time, as long as Kafka is slow: each left a connection."""
    connector = Connector(kafka_settings)
    for connecting in (connector.admin, connector.reader):
        asking = asyncio.create_task(connecting())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert not _connected()


async def test_a_start_that_is_given_up_closes_a_connection_without_an_answer(
    kafka_settings: TransportSettings,
) -> None:
    """The first connection of a client is known to nothing until it has answered."""
    host, port = kafka_settings.kafka_bootstrap_servers.split(":")
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(near: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        far, requests = await asyncio.open_connection(host, int(port))
        try:
            requests.write(await near.read(65536))
            answers.write(await far.read(65536))  # its versions
            await near.read(65536)
            asked.set()
            await near.read()
        finally:
            requests.close()
            answers.close()
            ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        connector = Connector(
            kafka_settings.model_copy(
                update={"kafka_bootstrap_servers": address, "kafka_timeout_ms": 60_000}
            )
        )
        asking = asyncio.create_task(connector.fetching([kafka_settings.kafka_topic]))
        await asked.wait()
        gc.disable()  # it would close the connection too
        try:
            asking.cancel()
            await asyncio.wait([asking])
            await ended.wait()
        finally:
            gc.enable()


async def test_a_consumer_whose_fetch_can_not_be_cancelled_in_good_order_is_closed(
    kafka_settings: TransportSettings,
) -> None:
    """One that has failed waits for a moment, and is cancelled there when its consumer is closed.

    aiokafka's ``stop()`` ends with it, and left the connection.
    """
    consumer = await Connector(kafka_settings).reader()
    resting = asyncio.create_task(_never())
    consumer._fetcher._pending_tasks.add(resting)  # noqa: SLF001 - as after an error of a fetch
    await discard_consumer(consumer)
    assert resting.cancelled()
    assert not _connected()


async def test_a_client_is_closed_though_who_closes_it_is_cancelled() -> None:
    left, closed = asyncio.Event(), asyncio.Event()

    async def connect() -> object:
        return object()

    async def discard(_: object) -> None:
        await left.wait()
        closed.set()

    client_pool = ClientPool(connect, discard, timeout=5)
    await client_pool.connect()
    closing = asyncio.create_task(client_pool.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    left.set()
    await eventually(closed.is_set)
