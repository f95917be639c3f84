"""A log moves to a newer server, with its files or by a replica. `make redis-versions` has more.

Redis 7.4 and Valkey went apart: neither reads the files of the other, nor follows it as a replica.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.local.binaries import Binary, find_redis_servers
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import run
from tests.transport.settler import Settler, settle
from transport.conformance.envelopes import contents, messages
from transport.contract import WORKER_GROUP, Topic
from transport.redis import RedisTransport

_LAST_COMMON = (7, 3)


@pytest.fixture
def servers() -> tuple[Binary, Binary]:
    """An older server, and the newest one that reads its files."""
    found = find_redis_servers().binaries
    newest = max(found, key=lambda it: (it.product == "valkey", it.version))
    for older in found:
        is_common = older.product == "redis" and older.version < _LAST_COMMON
        if older != newest and (older.product == newest.product or is_common):
            return older, newest
    pytest.skip("no older server than the newest is on the PATH: see make redis-versions")


async def _half_read(server: ValkeyServer) -> None:
    async with RedisTransport.from_settings(short_settings(server)) as log:
        await log.publish(messages(list("abcdefgh"), partition=0, of=log))
        await settle(log, 3)


async def _read_on(server: ValkeyServer) -> None:
    async with RedisTransport.from_settings(short_settings(server)) as log:
        progress, *_ = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (progress.lag, progress.lost, progress.appended) == (5, 0, 8)
        await log.publish(messages(list("ij"), partition=0, of=log))
        worker = Settler(log)
        worker.positions[0] = progress.floor or ""
        async with worker.working():
            await eventually(lambda: len(worker.records) >= 7)
        assert contents(worker.records) == list("defghij")
        progress, *_ = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert (progress.lag, progress.lost, progress.appended) == (0, 0, 10)


async def test_a_newer_server_reads_the_files(
    servers: tuple[Binary, Binary], tmp_path: Path
) -> None:
    older, newest = servers
    async with ValkeyServer(tmp_path / "data", binary=older) as server:
        await _half_read(server)
    async with ValkeyServer(tmp_path / "data", binary=newest) as server:
        await _read_on(server)


async def test_a_newer_server_follows_as_a_replica_and_is_promoted(
    servers: tuple[Binary, Binary], tmp_path: Path
) -> None:
    older, newest = servers
    async with (
        ValkeyServer(tmp_path / "older" / "data", binary=older) as primary,
        ValkeyServer(tmp_path / "newest" / "data", binary=newest) as replica,
    ):
        await _half_read(primary)
        await run(replica, "REPLICAOF", primary.host, str(primary.port))
        sent = (await run(primary, "INFO", "replication"))["master_repl_offset"]

        async def has_it() -> bool:
            told = await run(replica, "INFO", "replication")
            return told["master_link_status"] == "up" and told["slave_repl_offset"] >= sent

        await eventually(has_it)
        await run(replica, "REPLICAOF", "NO", "ONE")
        await _read_on(replica)
