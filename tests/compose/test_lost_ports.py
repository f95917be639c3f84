"""Servers that are started at once, or whose port is taken meanwhile: none is joined to another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from compose.local import ports, stack
from compose.local.databases import url_of
from compose.local.ports import free_port
from compose.local.postgres import PostgresServer
from compose.local.server import ServerPortTakenError
from compose.local.stack import Stack
from compose.local.valkey import ValkeyServer
from compose.settings import load
from tests.support.kafka import require_kafka
from transport.conformance.envelopes import contents, message
from transport.contract import Topic
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.registry import create

_KINDS = {"valkey": ValkeyServer, "postgres": PostgresServer}
both = pytest.mark.parametrize("kind", _KINDS)


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the ports that other processes are about to bind, as for two users of one machine."""
    monkeypatch.setattr(ports, "_claim", lambda _port: True)


@both
async def test_a_server_whose_port_is_taken_before_it_is_bound_gets_another(
    kind: str, tmp_path: Path
) -> None:
    port = free_port()
    server = _KINDS[kind](tmp_path / "data", near=port)
    assert server.port != port, "it is promised to this process already"
    thief = _KINDS[kind](tmp_path / "thief", port=server.port)
    await thief.start()
    try:
        await server.start()
        assert server.port != thief.port
        chosen = server.port
        await server.restart()
        assert server.port == chosen, "clients know it by now"
    finally:
        await server.stop()
        await thief.stop()


@both
async def test_a_server_whose_port_is_given_says_that_it_is_taken(
    kind: str, tmp_path: Path
) -> None:
    thief = ValkeyServer(tmp_path / "thief")
    await thief.start()
    try:
        server = _KINDS[kind](tmp_path / "data", port=thief.port)
        with pytest.raises(ServerPortTakenError, match=f"{server.name} ended while starting"):
            await server.start()
    finally:
        await thief.stop()


async def test_a_client_is_refused_by_another_server_on_the_port_of_its_own(
    tmp_path: Path,
) -> None:
    """Its own server is stopped, and the next ``up`` on this machine has got the port."""
    own = ValkeyServer(tmp_path / "own")
    await own.start()
    await own.stop()
    other = ValkeyServer(tmp_path / "other", port=own.port)
    await other.start()
    try:
        settings = load(
            {
                "REDIS_HOST": own.host,
                "REDIS_PORT": own.port,
                "REDIS_USERNAME": own.username,
                "REDIS_PASSWORD": own.password,
            }
        )
        with pytest.raises(TransportUnavailable, match="refused our credentials"):
            async with RedisTransport(settings.transport):
                pass
        async with Redis(port=other.port, db=1) as client:
            assert await client.keys() == []
    finally:
        await other.stop()


async def test_two_stacks_started_at_once_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strangers: None
) -> None:
    """Also for a user whose system speaks German: Java translates "Address already in use"."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    await require_kafka()
    for name in ("_REDIS_PORT", "_KAFKA_PORT", "_POSTGRES_PORT"):
        monkeypatch.setattr(stack, name, free_port())
    stacks = [Stack(tmp_path / name, {"redis", "kafka"}) for name in ("a", "b")]
    for servers in zip(*(each.servers for each in stacks), strict=True):
        assert len({server.port for server in servers}) == 1, "both want the same port"
    try:
        await asyncio.gather(*(each.start() for each in stacks))
        for servers in zip(*(each.servers for each in stacks), strict=True):
            assert len({server.port for server in servers}) == 2
        for number, each in enumerate(stacks):
            settings = load({**each.settings(), "STREAM_PARTITIONS": 1}).transport
            for name in ("redis", "kafka"):
                async with create(name, settings) as log:
                    await log.publish([message(f"of {number}", partition=0, of=log)])
        for number, each in enumerate(stacks):
            settings = load({**each.settings(), "STREAM_PARTITIONS": 1}).transport
            for name in ("redis", "kafka"):
                async with create(name, settings) as log:
                    assert contents(await log.read(Topic.MESSAGES, 0)) == [f"of {number}"]
        urls = {url_of(each.database_url, "") for each in stacks}
        assert len(urls) == 2
    finally:
        await asyncio.gather(*(each.stop() for each in stacks))
