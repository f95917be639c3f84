"""A name with several addresses, of which one does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from compose.local.ports import free_port
from compose.loop import new_event_loop
from tests.support.certificates import self_signed
from tests.support.own_etc import printed_with
from tests.support.postgres_tls import made_of, running

NAME = "two.test"
_TWICE = """
import asyncio, socket, sys
from compose.loop import new_event_loop

async def twice(ask, port):
    found = [it[4][0] for it in socket.getaddrinfo("two.test", port, type=socket.SOCK_STREAM)]
    assert found == ["127.0.0.1", "127.0.0.2"], found
    for _ in range(2):
        print(await ask())

def run(ask, port, *, loop=new_event_loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(twice(ask, port))
"""
_REDIS = """
from transport.redis.client.connections import RedisConnections
from transport.settings import TransportSettings

async def ask():
    connections = RedisConnections(TransportSettings(redis_host="two.test", redis_port=PORT))
    try:
        return await connections.call("PING")
    finally:
        await connections.close()
"""
_KAFKA = """
from aiokafka.client import AIOKafkaClient

async def ask():
    client = AIOKafkaClient(bootstrap_servers=f"two.test:{PORT}", request_timeout_ms=5000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    finally:
        await client.close()
"""
_POSTGRESQL = """
from persistence.database.pool import connect, using
from persistence.settings import PersistenceSettings

async def ask():
    pool = await connect(PersistenceSettings(database_url=sys.argv[2]))
    try:
        async with using(pool) as connection:
            return await connection.fetchval(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
    finally:
        pool.terminate()
"""


@contextmanager
def _silent(port: int) -> Iterator[None]:
    """Have a port of 127.0.0.1 drop what wants to connect, as a machine that is gone does."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", port))
        listening.listen(0)
        for _ in range(3):  # as many as wait to be accepted, and more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


@asynccontextmanager
async def _second(port: int, host: str, to: int) -> AsyncIterator[None]:
    """Have the same port of 127.0.0.2 lead to a server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection(host, to)
        try:
            with suppress(OSError):  # a client may reset its connection
                await asyncio.gather(_pass(reader, to_them), _pass(theirs, writer))
        finally:
            to_them.close()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.2", port):
        yield


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def _printed(folder: Path, script: str, port: int, *more: str) -> bytes:
    """Return what the script prints where the name has both addresses."""
    etc = {"hosts": f"127.0.0.1 localhost\n127.0.0.1 {NAME}\n127.0.0.2 {NAME}\n"}
    script = script.replace("PORT", str(port))
    return await printed_with(etc, script, str(port), *more, folder=folder)


@pytest.mark.parametrize("loop", ["new_event_loop", "asyncio.new_event_loop"])
async def test_an_address_of_redis_that_hangs_does_not_hide_the_other(
    loop: str, redis_server, tmp_path: Path
) -> None:
    """Neither in our processes nor in an application that uses the transport in its own loop."""
    port = free_port()
    script = f"{_TWICE}{_REDIS}\nrun(ask, PORT, loop={loop})"
    with _silent(port):
        async with _second(port, redis_server.host, redis_server.port):
            assert await _printed(tmp_path, script, port) == b"b'PONG'\nb'PONG'\n"


async def test_an_address_of_kafka_that_hangs_does_not_hide_the_other(
    kafka_node, tmp_path: Path
) -> None:
    port = free_port()
    host, _, to = kafka_node.bootstrap.rpartition(":")
    with _silent(port):
        async with _second(port, host, int(to)):
            script = f"{_TWICE}{_KAFKA}\nrun(ask, PORT)"
            assert await _printed(tmp_path, script, port) == b"True\nTrue\n"


async def test_an_address_of_postgresql_that_hangs_does_not_hide_the_other(
    initialized_postgres: Path, tmp_path: Path
) -> None:
    """The certificate is compared with the name, not with the address."""
    certificate = self_signed(tmp_path, host=NAME)
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", certificate)
    port = free_port()
    async with running(made) as server:
        with _silent(port):
            async with _second(port, "127.0.0.1", server.port):
                url = server.url_of("crossfade").replace(
                    f"127.0.0.1:{server.port}", f"{NAME}:{port}"
                )
                url += f"?sslmode=verify-full&sslrootcert={certificate.certificate}"
                script = f"{_TWICE}{_POSTGRESQL}\nrun(ask, PORT)"
                assert await _printed(tmp_path, script, port, url) == b"True\nTrue\n"


async def _refused(loop_factory) -> str:
    def ask() -> str:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            with pytest.raises(ConnectionRefusedError) as refused:
                runner.run(_connect(free_port()))
            return str(refused.value)

    return await asyncio.to_thread(ask)


async def _connect(port: int) -> None:
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, "localhost", port)


async def test_addresses_that_all_refuse_are_one_refusal() -> None:
    assert await _refused(new_event_loop) == "[Errno 111] Connection refused"
