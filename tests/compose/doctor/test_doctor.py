"""``crossfade doctor`` on servers that are healthy, and on logs that are not."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from compose.doctor.clock import clock
from compose.doctor.log import examine_durability
from compose.doctor.observation import Grade
from compose.local.valkey import ValkeyServer
from persistence.database.pool import Pool
from tests.support.doctor import Doctor, kafka_variables
from tests.support.eventually import eventually
from tests.support.kafka import KafkaNode, fresh_settings
from tests.support.partitioned_redis import partitioned_redis
from transport.conformance.envelopes import messages
from transport.contract import WORKER_GROUP, Topic
from transport.durability import Durability
from transport.redis import RedisTransport
from transport.redis.connection.rights import BETTER, LEAST
from transport.settings import TransportSettings

NewRedis = Callable[..., Awaitable[ValkeyServer]]

STREAM = "msg:stream:0"


async def test_fewer_replicas_than_an_append_waits_for_are_named(
    doctor: Doctor, log: TransportSettings
) -> None:
    status, found = await doctor.examine()
    assert (status, found["log redis, replicas"]["grade"]) == (0, "fine")
    status, found = await doctor.examine(REDIS_WAIT_REPLICAS="2")
    assert (status, found["log redis, replicas"]["grade"]) == (1, "bad")
    said = "0 connected; an append waits for 2 (REDIS_WAIT_REPLICAS)"
    assert found["log redis, replicas"]["found"] == said


async def test_what_a_partition_of_the_network_can_take_is_named_with_the_command(
    doctor: Doctor, log: TransportSettings, redis: Redis, new_redis: NewRedis
) -> None:
    _, found = await doctor.examine()
    assert "log redis, partition" not in found, "no replica can be promoted"
    async with Redis(port=(await new_redis()).port) as replica:
        await replica.execute_command("REPLICAOF", "127.0.0.1", log.redis_port)

        async def is_connected() -> bool:
            return bool((await redis.info("replication"))["connected_slaves"])

        await eventually(is_connected)
        _, found = await doctor.examine()
        told = found["log redis, partition"]
        assert (told["grade"], told["promise"]) == ("warning", 1)
        command = "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 5"
        assert command in told["found"]
        _, found = await doctor.examine(REDIS_WAIT_REPLICAS="1")
        assert "log redis, partition" not in found
        await redis.execute_command(*command.split())
        _, found = await doctor.examine()
        assert "log redis, partition" not in found


async def test_two_primaries_behind_sentinels_are_bad(
    doctor: Doctor, new_redis: NewRedis, tmp_path: Path
) -> None:
    async with partitioned_redis(new_redis, tmp_path) as redis:
        changes = {"REDIS_PORT": "", **redis.environment()}
        _, found = await doctor.examine(**changes)
        assert found["log redis, primary"]["grade"] == "fine"
        redis.cut()
        await redis.promoted()
        status, found = await doctor.examine(**changes)
    told = found["log redis, primary"]
    assert (status, told["grade"], told["promise"]) == (1, "bad", 1)
    assert f"the sentinels name {redis.address(1)}, and {redis.address(0)}" in told["found"]
    assert "RUNBOOKS.md" in told["remedy"]


async def test_what_is_healthy_is_fine(doctor: Doctor, log: TransportSettings) -> None:
    status, found = await doctor.examine()
    assert status == 0, found
    grades = {name: each["grade"] for name, each in found.items()}
    assert {name for name, grade in grades.items() if grade in {"bad", "unknown"}} == set()
    assert {
        "log redis, version", "log redis, role", "log redis, clock", "log redis, identity",
        "log redis, durability", "log redis, rights", "log redis, records",
        "postgresql, version", "postgresql, role", "postgresql, durability",
        "postgresql, clock", "postgresql, schema", "postgresql, rights",
        "postgresql, processes", "postgresql, connections", "here, open files", "here, python",
    } <= set(found)  # fmt: skip
    assert "Valkey" in found["log redis, version"]["found"]
    # One machine is one disk: told, and no failure unless asked for.
    assert grades["log redis, durability"] == "warning"
    assert (await doctor.examine("--strict"))[0] == 1


async def test_a_lag_that_is_not_known_is_not_told_as_nothing(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    async with RedisTransport(log) as transport:
        await transport.publish(messages(["x"] * 10_050, partition=0, of=transport))
        stands = await transport.read(Topic.MESSAGES, 0, limit=4)
        await redis.delete(f"{{{STREAM}}}:accounts:{WORKER_GROUP}")
        await redis.xgroup_setid(STREAM, WORKER_GROUP, stands[0].offset)
        await redis.xdel(STREAM, stands[3].offset)
    status, found = await doctor.examine()
    records = found["log redis, records"]
    assert records["grade"] == "unknown"
    assert records["found"].startswith("how many wait is not known in 1 of 2 partitions")
    assert status == 3


async def test_it_makes_nothing(doctor: Doctor, redis: Redis) -> None:
    status, found = await doctor.examine()
    assert status == 0
    assert "not made yet" in found["log redis, log"]["found"]
    assert await redis.dbsize() == 0


async def test_a_log_that_was_there_and_is_gone_is_bad(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.flushall()
    status, found = await doctor.examine()
    assert status == 1
    assert found["log redis, log"]["promise"] == 11


async def test_another_log_under_the_name_is_bad(
    doctor: Doctor, log: TransportSettings, database_pool: Pool
) -> None:
    await database_pool.execute("UPDATE log_identities SET identity = 'another'")
    status, found = await doctor.examine()
    assert status == 1
    assert "forget-log redis" in found["log redis, identity"]["remedy"]


async def test_acknowledgements_that_a_crash_may_lose_are_bad(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.config_set("appendfsync", "everysec")
    status, found = await doctor.examine()
    assert status == 1
    told = found["log redis, durability"]
    assert (told["grade"], told["promise"]) == ("bad", 1)
    assert "appendfsync=everysec" in told["found"]


async def test_a_server_that_does_not_tell_its_settings_is_unknown(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    """Providers forbid CONFIG."""
    await redis.acl_setuser(
        "limited", enabled=True, passwords=["+secret"], categories=["+@all"], commands=["-config"],
        keys=["*"], channels=["*"],
    )  # fmt: skip
    status, found = await doctor.examine(REDIS_USERNAME="limited", REDIS_PASSWORD="secret")
    assert status == 3
    assert found["log redis, durability"]["grade"] == "unknown"


@pytest.mark.parametrize(
    ("right", "grade", "status"),
    [("+@stream", "bad", 1), ("+pexpire", "bad", 1), ("+info", "warning", 0)],
)
async def test_a_right_that_the_user_lacks_is_named(
    doctor: Doctor, log: TransportSettings, redis: Redis, right: str, grade: str, status: int
) -> None:
    """The log is open to the user, and the first message would fail."""
    rights = [each for each in f"{LEAST} {BETTER}".split() if each != right]
    await redis.execute_command("ACL", "SETUSER", "limited", "on", ">secret", *rights)
    given = {"REDIS_USERNAME": "limited", "REDIS_PASSWORD": "secret"}
    exit_status, found = await doctor.examine(**given)
    told = found["log redis, rights"]
    assert (exit_status, told["grade"]) == (status, grade)
    assert told["found"] == f"our user lacks {right}"


async def test_a_replica_takes_no_writes(
    doctor: Doctor, log: TransportSettings, redis: Redis, new_redis: NewRedis
) -> None:
    primary = await new_redis()
    await redis.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
    status, found = await doctor.examine()
    assert status == 1
    assert found["log redis, connection"]["grade"] == "bad"
    assert "replica" in found["log redis, connection"]["found"]


async def test_a_server_without_memory_for_appends_is_bad(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.config_set("maxmemory", "100mb")
    status, found = await doctor.examine()
    assert (status, found["log redis, server memory"]["grade"]) == (0, "fine")
    await redis.config_set("maxmemory", "1")
    status, found = await doctor.examine()
    assert status == 1
    told = found["log redis, server memory"]
    assert told["grade"] == "bad"
    assert told["found"].startswith("full: ")
    assert "let workers drain the log" in told["remedy"]


async def test_a_log_that_is_down_does_not_hide_the_rest(doctor: Doctor, redis: Redis) -> None:
    await redis.shutdown(nosave=True)
    status, found = await doctor.examine(REDIS_TIMEOUT_MS="500")
    assert status == 1
    assert found["log redis, connection"]["grade"] == "bad"
    assert found["postgresql, rights"]["grade"] == "fine"


@pytest.mark.parametrize("server", ["redis", "kafka", "postgresql", "postgresql reads"])
async def test_a_server_that_does_not_answer_in_time_is_unknown(
    doctor: Doctor, log: TransportSettings, silent: int, database_url: str, server: str
) -> None:
    """It may be busy, or this machine: a time-out is no evidence against a server."""
    nowhere = re.sub(r"@[^/]*/", f"@127.0.0.1:{silent}/", database_url)
    settings = {
        "redis": {"REDIS_PORT": str(silent), "REDIS_TIMEOUT_MS": "500"},
        "kafka": {
            "TRANSPORT": "kafka",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent}",
            "KAFKA_TIMEOUT_MS": "1000",
        },
        "postgresql": {"DATABASE_URL": nowhere},
        "postgresql reads": {"DATABASE_READ_URL": nowhere},
    }[server]
    status, found = await doctor.examine(**settings)
    name = server if server.startswith("postgresql") else f"log {server}"
    told = found[f"{name}, connection"]
    assert (status, told["grade"]) == (3, "unknown"), told
    assert told["remedy"]


async def test_a_payload_store_that_does_not_answer_in_time_is_unknown(
    doctor: Doctor, log: TransportSettings, silent: int
) -> None:
    status, found = await doctor.examine(
        PAYLOAD_STORE="s3://bucket/prefix",
        PAYLOAD_ENDPOINT_URL=f"http://127.0.0.1:{silent}",
        PAYLOAD_TIMEOUT_MS="500",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        PAYLOAD_REGION="eu-west-1",
    )
    told = found["payload store, connection"]
    assert (status, told["grade"]) == (3, "unknown"), told


async def test_credentials_that_are_refused_are_to_be_corrected(doctor: Doctor) -> None:
    """The server runs: to look for it would be the wrong thing to do."""
    _, found = await doctor.examine(REDIS_PASSWORD="wrong")
    refused = found["log redis, connection"]
    assert "check REDIS_USERNAME and REDIS_PASSWORD" in refused["found"]
    assert refused["remedy"].startswith("do what the text names")


async def test_a_payload_store_and_its_fallback_are_looked_at(
    doctor: Doctor, log: TransportSettings, database_pool: Pool, tmp_path: Path
) -> None:
    await database_pool.execute("INSERT INTO log_identities VALUES ('payload-store', 'known')")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / ".crossfade-payloads").write_text("known")
    (tmp_path / "new").mkdir()
    status, found = await doctor.examine(
        PAYLOAD_STORE=(tmp_path / "old").as_uri(),
        PAYLOAD_FALLBACK_STORE=(tmp_path / "new").as_uri(),
    )
    assert status == 1
    assert found["payload store, rights"]["grade"] == "fine"
    assert found["payload stores, processes"]["grade"] == "fine"
    assert "crossfade payloads copy" in found["payload fallback store, identity"]["remedy"]


async def test_people_read_a_table_and_the_remedies_below(
    doctor: Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.config_set("appendonly", "no")
    printed = await doctor.table()
    assert "log redis, durability (promise 1): set it as docs/durability.md says" in printed
    assert "crossfade" in printed.splitlines()[1]


@pytest.mark.parametrize(
    ("server", "grade"),
    [(10.5, Grade.FINE), (9.5, Grade.FINE), (8.0, Grade.WARNING), (13.0, Grade.WARNING)],
)
def test_clocks_may_differ_by_a_second(server: float, grade: Grade) -> None:
    assert clock(server, 10.0, 11.0).grade is grade


@pytest.mark.parametrize(
    ("crash", "power", "disk", "grade", "told"),
    [
        (True, True, True, Grade.FINE, "survives a crash of the server, a power cut, a lost disk"),
        (True, False, True, Grade.FINE, "not a power cut of all machines at once"),
        (True, True, False, Grade.WARNING, "one machine lost with its disk"),
        (True, False, False, Grade.BAD, "a power cut may lose"),
        (False, False, True, Grade.BAD, "a crash of the server and a power cut may lose"),
        (True, None, False, Grade.UNKNOWN, "not told whether messages survive a power cut"),
        (True, True, None, Grade.UNKNOWN, "not told whether messages survive a lost disk"),
        (True, False, None, Grade.BAD, "a power cut may lose"),
        (True, None, True, Grade.FINE, "; not told of a power cut of all machines at once"),
    ],
    ids=[
        "all", "three nodes of Kafka", "one that flushes", "one", "in memory",
        "one whose flush is unknown", "copies unknown", "no flush, copies unknown",
        "copies, flush unknown",
    ],
)  # fmt: skip
def test_copies_on_other_machines_make_up_for_a_missing_flush(
    crash: bool, power: bool | None, disk: bool | None, grade: Grade, told: str
) -> None:
    """A Kafka as docs/production.md wants it passes, as it passes the gate ``durability``."""
    (observation,) = examine_durability(Durability(crash, power, disk, {}))
    assert (observation.grade, told in observation.found) == (grade, True), observation


async def test_a_kafka_log_is_examined(doctor: Doctor, kafka_server: KafkaNode) -> None:
    settings = fresh_settings(kafka_server.bootstrap)
    given = kafka_variables(settings) | {"STREAM_PARTITIONS": "2"}
    status, found = await doctor.examine(**given)
    assert status == 0, found
    assert found["log kafka, version"]["found"] == "Kafka, 1 broker"
    assert "not made yet" in found["log kafka, log"]["found"]
    topic = NewTopic(settings.kafka_topic, 2, 1, topic_configs={"cleanup.policy": "compact"})
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    await admin.create_topics([topic])
    await admin.close()
    status, found = await doctor.examine(**given)
    told = found["log kafka, connection"]
    assert (status, told["grade"]) == (1, "bad")
    assert "cleanup.policy is compact, wanted delete" in told["found"]
    assert "\n" not in told["found"], "it stands in a table"
    assert "see that the server runs" not in told["remedy"], "it does"
