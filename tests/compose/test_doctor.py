"""``crossfade doctor`` on servers that are healthy, and on such that are not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from compose.doctor.clock import clock
from compose.doctor.log import examine_durability
from compose.doctor.observation import Grade
from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from persistence import migrate
from persistence.database.pool import Pool
from tests.support.doctor import examined
from tests.support.forked_commands import ForkedCommands
from tests.support.kafka import KafkaNode, fresh_settings
from tests.support.pgbouncer import Pgbouncer, needs_prepared_statements
from tests.support.postgres_pair import pair
from tests.support.requirements import absent
from transport.durability import Durability
from transport.redis import RedisTransport
from transport.redis.connection.rights import BETTER, LEAST
from transport.settings import TransportSettings

NewRedis = Callable[..., Awaitable[ValkeyServer]]


class _Doctor:
    """Runs the command with settings that lead to one Redis and one database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self.settings = {"STREAM_PARTITIONS": "2", **settings}

    async def examine(self, *arguments: str, **changes: str) -> tuple[int, dict[str, Any]]:
        """See ``tests.support.doctor.examined``."""
        return await examined(self._folder, *arguments, settings=self.settings | changes)

    async def table(self) -> str:
        """Return what it prints for people."""
        ran = await ForkedCommands(self._folder).run("doctor", settings=self.settings)
        return ran.output.decode()


@pytest_asyncio.fixture
async def redis(new_redis: NewRedis) -> AsyncIterator[Redis]:
    server = await new_redis()
    async with Redis(port=server.port, db=1) as client:
        yield client


@pytest.fixture
def doctor(tmp_path: Path, redis: Redis, database_url: str) -> _Doctor:
    port = redis.connection_pool.connection_kwargs["port"]
    return _Doctor(tmp_path, REDIS_PORT=str(port), DATABASE_URL=database_url)


@pytest_asyncio.fixture
async def log(doctor: _Doctor, database_pool: Pool) -> TransportSettings:
    """The settings of a log that was made, and is known to the database."""
    settings = TransportSettings(redis_port=int(doctor.settings["REDIS_PORT"]), stream_partitions=2)
    async with RedisTransport(settings) as transport:
        identity = await transport.identity()
    await database_pool.execute("INSERT INTO log_identities VALUES ('redis', $1)", identity)
    return settings


async def test_fewer_replicas_than_an_append_waits_for_are_named(
    doctor: _Doctor, log: TransportSettings
) -> None:
    status, found = await doctor.examine()
    assert (status, found["log redis, replicas"]["grade"]) == (0, "fine")
    status, found = await doctor.examine(REDIS_WAIT_REPLICAS="2")
    assert (status, found["log redis, replicas"]["grade"]) == (1, "bad")
    said = "0 connected; an append waits for 2 (REDIS_WAIT_REPLICAS)"
    assert found["log redis, replicas"]["found"] == said


async def test_what_is_healthy_is_fine(doctor: _Doctor, log: TransportSettings) -> None:
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


async def test_it_makes_nothing(doctor: _Doctor, redis: Redis) -> None:
    status, found = await doctor.examine()
    assert status == 0
    assert "not made yet" in found["log redis, log"]["found"]
    assert await redis.dbsize() == 0


async def test_a_log_that_was_there_and_is_gone_is_bad(
    doctor: _Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.flushall()
    status, found = await doctor.examine()
    assert status == 1
    assert found["log redis, log"]["promise"] == 11


async def test_another_log_under_the_name_is_bad(
    doctor: _Doctor, log: TransportSettings, database_pool: Pool
) -> None:
    await database_pool.execute("UPDATE log_identities SET identity = 'another'")
    status, found = await doctor.examine()
    assert status == 1
    assert "forget-log redis" in found["log redis, identity"]["remedy"]


async def test_a_primary_that_was_replaced_and_goes_on_taking_writes_is_bad(
    doctor: _Doctor, initialized_postgres: Path, tmp_path: Path
) -> None:
    async with pair(initialized_postgres, tmp_path / "pair") as servers:
        await servers.promote()
        status, found = await doctor.examine(DATABASE_URL=servers.url)
    assert status == 1
    told = found["postgresql, replaced"]
    assert f":{servers.primary.port} goes on taking writes" in told["found"]


async def test_acknowledgements_that_a_crash_may_lose_are_bad(
    doctor: _Doctor, log: TransportSettings, redis: Redis
) -> None:
    await redis.config_set("appendfsync", "everysec")
    status, found = await doctor.examine()
    assert status == 1
    told = found["log redis, durability"]
    assert (told["grade"], told["promise"]) == ("bad", 1)
    assert "appendfsync=everysec" in told["found"]


async def test_a_server_that_does_not_tell_its_settings_is_unknown(
    doctor: _Doctor, log: TransportSettings, redis: Redis
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
    doctor: _Doctor, log: TransportSettings, redis: Redis, right: str, grade: str, status: int
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
    doctor: _Doctor, log: TransportSettings, redis: Redis, new_redis: NewRedis
) -> None:
    primary = await new_redis()
    await redis.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))
    status, found = await doctor.examine()
    assert status == 1
    assert found["log redis, connection"]["grade"] == "bad"
    assert "replica" in found["log redis, connection"]["found"]


async def test_a_server_without_memory_for_appends_is_bad(
    doctor: _Doctor, log: TransportSettings, redis: Redis
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


async def test_the_address_of_reads_is_looked_at(
    doctor: _Doctor, log: TransportSettings, database_url: str
) -> None:
    status, found = await doctor.examine(DATABASE_READ_URL=database_url)
    assert (status, found["postgresql reads, role"]["grade"]) == (0, "fine")
    nowhere = re.sub("@[^/]*/", "@127.0.0.1:1/", database_url)
    status, found = await doctor.examine(DATABASE_READ_URL=nowhere)
    assert (status, found["postgresql reads, connection"]["grade"]) == (1, "bad")
    assert "DATABASE_READ_URL" in found["postgresql reads, connection"]["remedy"]
    assert "check DATABASE_READ_URL" in found["postgresql reads, connection"]["found"]
    empty = database_url.rpartition("/")[0] + "/postgres"
    status, found = await doctor.examine(DATABASE_READ_URL=empty)
    assert (status, found["postgresql reads, schema"]["grade"]) == (1, "bad")


async def test_a_log_that_is_down_does_not_hide_the_rest(doctor: _Doctor, redis: Redis) -> None:
    await redis.shutdown(nosave=True)
    status, found = await doctor.examine(REDIS_TIMEOUT_MS="500")
    assert status == 1
    assert found["log redis, connection"]["grade"] == "bad"
    assert found["postgresql, rights"]["grade"] == "fine"


async def test_a_database_that_is_down_does_not_hide_the_rest(
    doctor: _Doctor, log: TransportSettings, new_postgres: Callable[..., Awaitable[PostgresServer]]
) -> None:
    server = await new_postgres()
    await server.stop()
    status, found = await doctor.examine(DATABASE_URL=server.url)
    assert status == 1
    assert found["postgresql, connection"]["grade"] == "bad"
    assert found["log redis, records"]["grade"] == "fine"


async def test_a_user_without_rights_and_a_database_without_a_schema_are_bad(
    doctor: _Doctor, database_pool: Pool, database_url: str
) -> None:
    role = f"reader_{database_url.rpartition('/')[2]}"
    await database_pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a'")
    try:
        await database_pool.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        limited = re.sub("//[^@]*@", f"//{role}:a@", database_url)
        status, found = await doctor.examine(DATABASE_URL=limited)
        assert status == 1
        assert "on messages" in found["postgresql, rights"]["found"]
        assert found["postgresql, rights"]["remedy"] == f"GRANT them to {role}"
    finally:
        await database_pool.execute(f"DROP OWNED BY {role}")
        await database_pool.execute(f"DROP ROLE {role}")
    empty = database_url.rpartition("/")[0] + "/postgres"
    status, found = await doctor.examine(DATABASE_URL=empty)
    assert status == 1
    assert "crossfade db upgrade" in found["postgresql, schema"]["remedy"]


async def test_a_role_that_may_make_no_tables_is_not_sent_to_the_upgrade(
    doctor: _Doctor, postgres_server: PostgresServer, database_pool: Pool
) -> None:
    """As of PostgreSQL 15, ``GRANT ALL ON DATABASE`` lets nobody make tables in public."""
    empty = await postgres_server.create_database("unmade")
    await database_pool.execute("CREATE ROLE stranger LOGIN")
    try:
        connection = await asyncpg.connect(empty)
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        await connection.close()
        status, found = await doctor.examine(DATABASE_URL=_as("stranger", empty))
    finally:
        await postgres_server.drop_database("unmade")
        await database_pool.execute("DROP ROLE stranger")
    assert status == 1
    schema = found["postgresql, schema"]
    assert schema["found"].endswith("database unmade, and stranger may not create tables there")
    assert schema["remedy"].startswith("GRANT CREATE ON SCHEMA public TO stranger")


@pytest_asyncio.fixture
async def role(database_pool: Pool, database_url: str) -> AsyncIterator[str]:
    """A role that may use all tables, and owns none. Its name is as a cloud gives them: quoted."""
    name = f'"user@{database_url.rpartition("/")[2]}.iam"'
    await database_pool.execute(f"CREATE ROLE {name} LOGIN")
    for every in ("TABLES", "SEQUENCES"):
        await database_pool.execute(f"GRANT ALL ON ALL {every} IN SCHEMA public TO {name}")
    yield name
    await database_pool.execute(f"DROP OWNED BY {name}")
    await database_pool.execute(f"DROP ROLE {name}")


def _as(role: str, url: str) -> str:
    user = quote(role.strip('"'), safe="")
    return re.sub("//[^@]*@", f"//{user}@", url)


@pytest.mark.parametrize(
    ("change", "what", "found", "remedy"),
    [
        (
            "REVOKE SELECT ON alembic_version FROM {role}",
            "rights",
            "{role} lacks SELECT on alembic_version",
            "GRANT them to {role}",
        ),
        (
            "REVOKE UPDATE ON fences FROM {role}",
            "rights",
            "{role} lacks UPDATE on fences",
            "GRANT them to {role}",
        ),
        (
            "REVOKE UPDATE ON SEQUENCE messages_seq_seq FROM {role}",
            "sequences",
            "{role} may not read and set messages_seq_seq: on a copy made by logical replication",
            "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ),
        (
            "INSERT INTO sequence_marks VALUES ('messages', 7)",
            "sequences",
            "messages_seq_seq: the next number is one that rows have",
            "SELECT setval('messages_seq_seq', 1000007)",
        ),
        (
            "ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
            "row security",
            "it keeps rows of messages from {role}",
            "ALTER ROLE {role} BYPASSRLS",
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            "schema",
            '{role} may use no schema of its search_path ("$user", public)',
            "GRANT USAGE ON SCHEMA public TO {role}",
        ),
        (
            'CREATE SCHEMA "T" AUTHORIZATION {role}; ALTER ROLE {role} SET search_path = "T"',
            "schema",
            "tables of Crossfade are in schema public",
            "ALTER ROLE {role} SET search_path = public",
        ),
        (
            "ALTER ROLE {role} CONNECTION LIMIT 7",
            "connections",
            "the role {role} takes 7",
            "ALTER ROLE {role} CONNECTION LIMIT",
        ),
    ],
)
async def test_what_a_role_of_postgresql_lacks_is_named(
    doctor: _Doctor,
    database_pool: Pool,
    database_url: str,
    role: str,
    change: str,
    what: str,
    found: str,
    remedy: str,
) -> None:
    await database_pool.execute(change.format(role=role))
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    said = told[f"postgresql, {what}"]
    is_warning = what == "connections" or change.startswith("REVOKE UPDATE ON SEQUENCE")
    assert said["grade"] == ("warning" if is_warning else "bad")
    assert found.format(role=role) in said["found"]
    assert remedy.format(role=role) in said["remedy"]
    assert "postgresql, connection" not in told, "it was reached"


async def test_rights_are_looked_at_where_the_tables_are(
    doctor: _Doctor, database_pool: Pool, database_url: str, role: str
) -> None:
    """A schema of the role's own comes before the one that has the tables, and has none."""
    await database_pool.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    await database_pool.execute("CREATE TABLE strangers ()")
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    assert told["postgresql, rights"]["grade"] == "fine"
    await database_pool.execute(f"REVOKE INSERT ON messages FROM {role}")
    _, told = await doctor.examine(DATABASE_URL=_as(role, database_url))
    assert told["postgresql, rights"]["found"] == f"{role} lacks INSERT on messages"


@pytest.mark.parametrize(
    ("change", "url", "remedy"),
    [
        ("SELECT 1", "{url}_not_there", "make that database"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "{url}", "ALTER ROLE ... CONNECTION LIMIT"),
        ("ALTER ROLE {role} NOLOGIN", "{url}", "correct the user and the password"),
    ],
)
async def test_a_database_that_refuses_us_is_told_with_what_mends_that(
    doctor: _Doctor,
    database_pool: Pool,
    database_url: str,
    role: str,
    change: str,
    url: str,
    remedy: str,
) -> None:
    await database_pool.execute(change.format(role=role))
    given = url.format(url=_as(role, database_url))
    status, told = await doctor.examine(DATABASE_URL=given)
    assert status == 1
    assert remedy in told["postgresql, connection"]["remedy"]


async def test_more_processes_than_connections_are_a_warning(
    doctor: _Doctor, log: TransportSettings
) -> None:
    status, found = await doctor.examine(DATABASE_POOL_SIZE="500")
    assert status == 0
    assert "DATABASE_POOL_SIZE" in found["postgresql, connections"]["remedy"]


async def test_a_payload_store_and_its_fallback_are_looked_at(
    doctor: _Doctor, log: TransportSettings, database_pool: Pool, tmp_path: Path
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
    doctor: _Doctor, log: TransportSettings, redis: Redis
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
    ],
    ids=["all", "three nodes of Kafka", "one that flushes", "one", "in memory"],
)
def test_copies_on_other_machines_make_up_for_a_missing_flush(
    crash: bool, power: bool, disk: bool, grade: Grade, told: str
) -> None:
    """A Kafka as docs/production.md wants it passes, as it passes the gate ``durability``."""
    (observation,) = examine_durability(Durability(crash, power, disk, {}))
    assert (observation.grade, told in observation.found) == (grade, True), observation


async def test_a_kafka_log_is_examined(doctor: _Doctor, kafka_server: KafkaNode) -> None:
    settings = fresh_settings(kafka_server.bootstrap)
    given = {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC": settings.kafka_topic,
        "KAFKA_DLQ_TOPIC": settings.kafka_dlq_topic,
    }
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
    assert "see that the server runs" not in told["remedy"], "it does"


async def test_a_pooler_whose_sessions_are_taken_gives_no_answer(
    doctor: _Doctor, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """In session mode; by default pgbouncer has 20 for a database and a user."""
    name = doctor.settings["DATABASE_URL"].rpartition("/")[2]
    pooler = Pgbouncer(tmp_path / "pooler", postgres_server, mode="session", pool_size=1)
    async with pooler:
        taken = await asyncpg.connect(pooler.url_of(name))
        status, found = await doctor.examine(DATABASE_URL=pooler.url_of(name))
        await taken.close()
    assert status == 1
    assert "gave no answer in time" in found["postgresql, connection"]["found"]
    assert "default_pool_size" in found["postgresql, connection"]["remedy"]


async def test_a_pooler_is_named_and_what_it_keeps_back(
    doctor: _Doctor, log: TransportSettings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    needs_prepared_statements()
    direct = doctor.settings["DATABASE_URL"]
    pooler = Pgbouncer(tmp_path / "pooler", postgres_server, mode="transaction", statements=200)
    async with pooler:
        _, found = await doctor.examine(
            DATABASE_URL=pooler.url_of(direct.rpartition("/")[2]), DATABASE_DIRECT_URL=direct
        )
    assert found["postgresql, pooler"]["found"] == "in transaction mode"
    assert "SET statement_timeout = '30000'" in found["postgresql, sessions"]["remedy"]
    assert "postgresql, connections" not in found, "the pooler says how many"


async def test_a_database_whose_collation_was_upgraded_beneath_it_is_bad(
    doctor: _Doctor, postgres_server: PostgresServer
) -> None:
    """As when the system's libraries are upgraded: its indexes are sorted in the old order."""
    server = await asyncpg.connect(postgres_server.url)
    try:
        try:
            await server.execute(
                "CREATE DATABASE collated TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            )
        except asyncpg.PostgresError as error:
            absent(f"PostgreSQL 15 or later with ICU, to have a collation with a version: {error}")
        url = postgres_server.url_of("collated")
        await migrate.upgrade(url)
        _, found = await doctor.examine(DATABASE_URL=url)
        assert "postgresql, collation" not in found
        await server.execute(
            "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'collated'"
        )
        status, found = await doctor.examine(DATABASE_URL=url)
        assert status == 1
        told = found["postgresql, collation"]
        assert told["grade"] == "bad"
        assert told["promise"] == 2
        assert "was made with version 0.1" in told["found"]
        assert "REINDEX DATABASE collated" in told["remedy"]
    finally:
        await server.execute("DROP DATABASE IF EXISTS collated")
        await server.close()
