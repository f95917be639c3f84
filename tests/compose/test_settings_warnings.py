"""What a start says of PostgreSQL's settings: the exact statements that mend them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
import structlog

from compose.local.postgres import _OPTIONS, PostgresServer
from compose.process.settings_warnings import warn, warn_of_database
from compose.settings import load
from transport.settings import TransportSettings

NO_FILE = Path("/nonexistent/.env")


async def _warnings(url: str, **session: str) -> list[str]:
    """Return the remedies; ``session`` are settings of the connection that asks."""
    async with asyncpg.create_pool(url, min_size=0, server_settings=session) as pool:
        with structlog.testing.capture_logs() as logs:
            await warn_of_database(pool, asyncio.Event())
    return [entry["remedy"] for entry in logs]


@pytest.fixture
def ours(postgres_server) -> PostgresServer:
    if not isinstance(postgres_server, PostgresServer):
        pytest.skip("a server with settings of its own")
    return postgres_server


def test_a_count_whose_partitions_wait_for_each_other_is_told_once():
    with structlog.testing.capture_logs() as logs:
        warn(TransportSettings(transport="redis@100", transport_shadow="redis@32"))
    (entry,) = logs
    assert "the 100 partitions of redis@100 are inserted by 20 workers at once" in entry["event"]
    assert "divides 960" in entry["remedy"]


async def test_a_server_of_up_gives_no_cause(ours: PostgresServer):
    assert await _warnings(ours.url) == []


async def test_pages_that_are_not_compressed_are_told_with_the_statement(ours: PostgresServer):
    (remedy,) = await _warnings(ours.url, wal_compression="off")
    assert remedy.startswith("ALTER SYSTEM SET wal_compression = ")
    connection = await asyncpg.connect(ours.url)
    try:
        for statement in remedy.strip(";").split("; "):
            await connection.execute(statement)
        await connection.execute("ALTER SYSTEM RESET wal_compression")
    finally:
        await connection.close()


async def test_a_server_as_it_is_installed_is_told_of_all_three(tmp_path, monkeypatch):
    plain = [
        option
        for option in _OPTIONS
        if not option.startswith(("max_wal_size", "checkpoint_timeout"))
    ]
    monkeypatch.setattr("compose.local.postgres._OPTIONS", plain)
    monkeypatch.setattr("compose.local.postgres._compression", lambda _binary: "off")
    async with PostgresServer(tmp_path / "data") as server:
        (remedy,) = await _warnings(server.url)
    for setting in ("wal_compression", "max_wal_size", "checkpoint_timeout"):
        assert f"ALTER SYSTEM SET {setting} = " in remedy


def _told_of_sentinels(**settings: str) -> list[str]:
    with structlog.testing.capture_logs() as logs:
        warn(load(settings, env_file=NO_FILE).transport)
    return [f"{entry['event']}: {entry['remedy']}" for entry in logs]


def test_fewer_than_three_sentinels_are_told():
    assert _told_of_sentinels(REDIS_URL="redis+sentinel://a,b,c/main") == []
    assert _told_of_sentinels(REDIS_URL="redis://a") == []
    (told,) = _told_of_sentinels(REDIS_URL="redis+sentinel://:secret@a,b/main")
    assert "2 of the sentinels of 'main' are named for redis" in told
    assert "in REDIS_URL" in told
    assert "secret" not in told
    (told,) = _told_of_sentinels(
        TRANSPORT="redis.b", LOG_B_REDIS_URL="redis+sentinel://a/other", REDIS_URL="redis://c"
    )
    assert "1 of the sentinels of 'other' are named for redis.b" in told
    assert "in LOG_B_REDIS_URL" in told
