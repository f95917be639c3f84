"""What is checked and made before a log is used, and what a start is told that can't go well."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from compose.local.binaries import LIBC
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.settler import settle
from transport.conformance.envelopes import message
from transport.contract import WORKER_GROUP, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections


async def test_streams_and_groups_have_the_names_of_the_guide(
    near: RedisTransport, client: Redis
) -> None:
    for partition in range(near.partitions):
        (group,) = await client.xinfo_groups(f"msg:stream:{partition}")
        assert (group["name"], group["last-delivered-id"]) == (b"persistence-workers", b"0-0")
    (group,) = await client.xinfo_groups("msg:dlq")
    assert group["name"] == b"dlq-processors"


async def test_groups_made_by_hand_as_the_guide_has_it_are_used(
    own_redis: ValkeyServer, client: Redis
) -> None:
    await client.execute_command(
        "XGROUP", "CREATE", "msg:stream:0", "persistence-workers", "0", "MKSTREAM"
    )
    async with RedisTransport.from_settings(short_settings(own_redis)) as transport:
        await transport.publish([message("x", partition=0, of=transport)])
        (progress, *_) = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert progress.lag == 1


async def test_side_keys_live_in_the_slot_of_their_stream(
    near: RedisTransport, client: Redis
) -> None:
    await near.publish([message("x", partition=2, of=near)])
    keys = [key.decode() for key in await client.keys("*msg:stream:2*")]
    assert len(keys) >= 2, "stream and accounts; what is remembered is the whole log's"
    assert len({key_slot(key.encode()) for key in keys}) == 1


async def test_another_number_of_partitions_stops_the_start(
    near: RedisTransport, own_redis: ValkeyServer
) -> None:
    other = RedisTransport.from_settings(short_settings(own_redis, stream_partitions=8))
    with pytest.raises(ConfigurationError, match=r"STREAM_PARTITIONS=8.*4 partitions"):
        async with other:
            pass
    async with RedisTransport.from_settings(short_settings(own_redis)):
        pass


async def test_a_server_that_is_not_there_is_named_with_the_settings_to_look_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else's either
        settings = short_settings(None, redis_host="127.0.0.1", redis_port=taken.getsockname()[1])
        with pytest.raises(TransportUnavailable, match="REDIS_HOST and REDIS_PORT"):
            async with RedisTransport.from_settings(settings):
                pass


async def test_a_database_that_does_not_exist_is_told(own_redis: ValkeyServer) -> None:
    settings = short_settings(own_redis, redis_stream_db=9999)
    with pytest.raises(ConfigurationError, match="set REDIS_STREAM_DB"):
        async with RedisTransport.from_settings(settings):
            pass


async def test_a_server_that_evicts_records_stops_the_start(
    own_redis: ValkeyServer, client: Redis
) -> None:
    await client.config_set("maxmemory", "1gb")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match=r"allkeys-lru.*noeviction"):
            async with RedisTransport.from_settings(short_settings(own_redis)):
                pass
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "0")


async def test_a_cluster_of_valkey_9_0_0_stops_the_start(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    if not own_redis.binary.label.startswith(("valkey 9.0.0", "valkey 9.0.1")):
        pytest.skip(f"{own_redis.binary.label} loses no keys of a cluster")
    cluster = ValkeyServer(
        tmp_path / "data", binary=own_redis.binary, config={"cluster-enabled": "yes"}
    )
    settings = short_settings(cluster, redis_stream_db=0)
    async with cluster, Redis(host=cluster.host, port=cluster.port) as admin:
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        await eventually(lambda: _takes_keys(admin))
        with pytest.raises(ConfigurationError, match=r"upgrade it to 9\.0\.2 or later"):
            async with RedisTransport.from_settings(settings):
                pass


async def _takes_keys(client: Redis) -> bool:
    told: dict[str, str] = await client.execute_command("CLUSTER INFO")
    return told["cluster_state"] == "ok"


async def test_a_server_that_keeps_nothing_on_disk_is_warned_of(
    own_redis: ValkeyServer, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await client.config_set("appendonly", "no")
    try:
        async with RedisTransport.from_settings(short_settings(own_redis)):
            pass
        assert "appendonly yes" in caplog.text
    finally:
        await client.config_set("appendonly", "yes")


def _is_static(program: Path) -> bool:
    return subprocess.run(["ldd", program], capture_output=True, check=False).returncode != 0


async def test_a_server_with_the_c_librarys_malloc_is_warned_of_unless_another_is_loaded(
    own_redis: ValkeyServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if own_redis.binary.allocator != LIBC:
        pytest.skip(f"{own_redis.binary.label} was built with {own_redis.binary.allocator}")
    if _is_static(own_redis.binary.path):
        pytest.skip(f"{own_redis.binary.label} is statically linked: it loads no allocator")
    async with RedisTransport.from_settings(short_settings(own_redis)):
        pass
    assert "malloc" not in caplog.text, "ours runs with mimalloc"
    monkeypatch.setenv("LD_PRELOAD", "")  # as somebody has it who chooses the allocator
    server = ValkeyServer(tmp_path / "data", binary=own_redis.binary)
    async with server, RedisTransport.from_settings(short_settings(server)):
        pass
    assert "expect a third fewer appends" in caplog.text


async def test_a_server_without_functions_is_too_old(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    """Stands in for Redis 6: the command does not exist there either."""
    (tmp_path / "old.conf").write_text('rename-command FUNCTION ""\n')
    server = ValkeyServer(
        tmp_path / "data",
        binary=own_redis.binary,
        config={"include": str(tmp_path / "old.conf")},
    )
    await server.start()
    try:
        with pytest.raises(ConfigurationError, match=r"Redis 7\.0 or later, or Valkey"):
            async with RedisTransport.from_settings(short_settings(server)):
                pass
    finally:
        await server.stop()


async def test_a_managed_server_works_and_its_durability_is_unknown(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    """Providers rename or forbid what would let their customers change a server."""
    forbidden = ("CONFIG", "INFO", "CLIENT", "MEMORY", "ACL", "DEBUG", "ROLE", "SCRIPT")
    lines = [f'rename-command {name} ""' for name in forbidden]
    (tmp_path / "managed.conf").write_text("\n".join(lines))
    server = ValkeyServer(
        tmp_path / "data",
        binary=own_redis.binary,
        config={"include": str(tmp_path / "managed.conf")},
    )
    async with (
        server,
        RedisTransport.from_settings(short_settings(server)) as transport,
    ):
        await transport.publish([message("x", partition=0, of=transport)])
        await settle(transport, 1)
        durability = await transport.durability()
        assert (durability.crash, durability.power, durability.disk) == (None, None, None)
        assert "CONFIG" in str(durability.figures)


async def test_no_password_shows_in_what_people_print(own_redis: ValkeyServer) -> None:
    settings = short_settings(own_redis, redis_password="s3cret-word")
    transport = RedisTransport.from_settings(settings)
    shown = f"{transport!r} {vars(transport)!r} {vars(RedisConnections(settings))!r} {settings!r}"
    assert "s3cret-word" not in shown
