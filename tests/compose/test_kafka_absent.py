"""``TRANSPORT=kafka`` where no Kafka is: started by hand, or in containers without its profile."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket

import httpx
import pytest

from compose.local.ports import free_port
from compose.loop import new_event_loop
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport

LOOK_UP = "no-such-host.invalid"


async def _status(url: str) -> int:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url)).status_code
    except httpx.TransportError:
        return 0


def _places(kafka: str) -> dict[str, str]:
    """Settings for a service whose other servers are not there either."""
    return {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing",
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }


async def test_health_answers_while_what_should_be_kafka_says_nothing(crossfade):
    """The address takes connections and answers none, for as long as Kafka is given."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        places = _places(f"127.0.0.1:{silent.getsockname()[1]}")
        running = await crossfade("serve", **places, KAFKA_TIMEOUT_MS="60000")
        api = f"http://127.0.0.1:{places['PORT']}"
        await eventually(lambda: _is(api, "/healthz", 200))
        assert await _status(f"{api}/readyz") == 503
        await running.says("kafka has not answered within 5 s")
        await running.kill()


async def test_a_kafka_that_is_not_there_is_told_once_with_the_remedy(crossfade):
    """Its name is unknown, as in containers where its profile was not asked for."""
    places = _places(f"{LOOK_UP}:9092")
    running = await crossfade("serve", **places)
    await running.says("The log is not available yet")
    api = f"http://127.0.0.1:{places['PORT']}"
    await eventually(lambda: _is(api, "/healthz", 200))
    await asyncio.sleep(1.5)  # it is tried again after 0.2, 0.6 and 1.4 s
    assert await running.terminate() == 0
    (told,) = [line for line in running.lines if "The log is not available yet" in line]
    assert f"there is no host '{LOOK_UP}'" in told
    assert "KAFKA_BOOTSTRAP_SERVERS" in told
    assert "--profile kafka" in told
    assert "Unable connect" not in running.text
    assert "never retrieved" not in running.text


async def _is(api: str, path: str, status: int) -> bool:
    return await _status(f"{api}{path}") == status


async def test_an_address_of_several_is_named_where_all_are_unknown():
    settings = fresh_settings(f"{LOOK_UP}:9092,other-{LOOK_UP}:9092")
    with pytest.raises(TransportUnavailable, match=f"there is no host '.*{LOOK_UP}'"):
        async with KafkaTransport(settings):
            pass


def test_a_look_up_that_was_given_up_is_not_reported_and_other_failures_are(caplog):
    """Uvloop goes on with it when the connection is cancelled, and drops its result."""

    async def give_up() -> None:
        loop = asyncio.get_running_loop()
        connecting = asyncio.create_task(loop.create_connection(asyncio.Protocol, LOOK_UP, 9092))
        await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        with pytest.raises(socket.gaierror):  # answered after the one that was given up
            await loop.getaddrinfo(LOOK_UP, 9092)
        await asyncio.sleep(0.2)
        forgotten = loop.create_future()
        forgotten.set_exception(ValueError("nobody asks for this"))
        del forgotten, connecting
        gc.collect()

    with caplog.at_level(logging.ERROR), asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(give_up())
    (told,) = [record.getMessage() for record in caplog.records]
    assert "nobody asks for this" in told
