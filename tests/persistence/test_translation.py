"""Every error of the driver has a meaning: an outage is not a poison record (promise 6)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from asyncpg import exceptions
from asyncpg.exceptions import _base

from persistence import errors
from persistence.database.pool import connect, using
from persistence.database.translation import translate, translated
from persistence.errors import (
    Contended,
    Crowded,
    Outage,
    Rejected,
    SchemaOutdated,
    TooSlow,
    Unexpected,
    UnfitDatabase,
)
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed
from tests.support.eventually import eventually

# Server errors that our statements can't cause, or that only a fault in them can: tried again and
# reported, never blamed on a record.
NOT_UNDERSTOOD = {
    "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "24", "25", "26", "27",
    "2B", "2D", "2F", "34", "38", "39", "3B", "42", "44", "72", "HV", "P0",
}  # fmt: skip


def states() -> dict[str, type[Exception]]:
    return {
        kind.sqlstate: kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, asyncpg.PostgresError)
        and getattr(kind, "sqlstate", None)
    }  # fmt: skip


def meaning(state: str) -> type[Exception]:
    return type(translate(asyncpg.PostgresError.new({"C": state, "M": "…"})))


def test_every_sqlstate_class_the_driver_knows_is_either_ruled_on_or_listed_as_not_understood():
    for state in states():
        known = meaning(state) is not Unexpected
        assert known != (state[:2] in NOT_UNDERSTOOD) or state in {
            "25006",
            "25P03",
            "25P04",
            "26000",
            "42501",
            "42703",
            "42P01",
            "42P05",
            "P0001",
        }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", Outage), ("53100", Outage), ("53300", Crowded), ("55P03", Contended),
        ("53200", TooSlow), ("53400", TooSlow),
        ("57P01", Outage), ("57P03", Outage), ("58030", Outage), ("25006", Outage),
        ("42P01", SchemaOutdated), ("42703", SchemaOutdated), ("28P01", Outage), ("3D000", Outage),
        ("42501", Outage), ("XX001", Outage), ("57014", TooSlow), ("40001", Contended),
        ("40P01", Contended), ("22021", Rejected), ("23503", Rejected), ("23505", Rejected),
        ("54000", Rejected), ("42601", Unexpected), ("25P02", Unexpected), ("ZZ999", Unexpected),
        ("P0001", Rejected), ("P0002", Unexpected), ("25P03", Outage), ("25P04", Outage),
    ],
)  # fmt: skip
def test_a_sqlstate_means(state, expected):
    assert meaning(state) is expected


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("28P01", "correct the user and the password in DATABASE_URL"),
        ("28000", "correct the user and the password in DATABASE_URL"),
        ("3D000", "correct its name in DATABASE_URL"),
    ],
)
def test_whoever_is_let_in_nowhere_is_told_what_to_correct(state, remedy):
    refused = asyncpg.PostgresError.new({"C": state, "M": "it is not let in"})
    assert remedy in (told := str(translate(refused)))
    assert f"(PostgreSQL: it is not let in, SQLSTATE {state})" in told


@pytest.mark.parametrize(
    ("state", "source", "remedy"),
    [
        ("53100", "md.c", "its disk is full: make room on it"),
        ("53200", "mcxt.c", "lower STREAM_BATCH_SIZE"),
        ("53200", "lock.c", "raise max_locks_per_transaction"),
        ("53400", "fd.c", "raise temp_file_limit"),
    ],
)
def test_a_resource_that_is_used_up_is_named_with_the_remedy(state, source, remedy):
    refused = asyncpg.PostgresError.new({"C": state, "M": "used up", "F": source})
    assert remedy in (told := str(translate(refused)))
    assert told.endswith(f"(PostgreSQL: used up, SQLSTATE {state})")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("varsup.c", Outage), ("multixact.c", Outage), ("md.c", Outage), ("bufmgr.c", Outage),
        ("nbtutils.c", Rejected),
    ],
)  # fmt: skip
def test_a_limit_of_the_server_is_told_from_one_of_a_record(source, expected):
    reached = asyncpg.PostgresError.new({"C": "54000", "M": "…", "F": source})
    assert type(translate(reached)) is expected


def test_every_error_of_the_driver_itself_is_ruled_on():
    """An argument it can't encode is the record's fault; all else is not."""
    seen = {}
    for kind in vars(_base).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, Exception)
            and not issubclass(kind, Warning | asyncpg.PostgresError)
        ):
            seen[kind.__name__] = type(translate(kind("…")))
    assert seen == {
        "InterfaceError": Outage,
        "ClientConfigurationError": UnfitDatabase,
        "TargetServerAttributeNotMatched": Outage,
        "UnsupportedClientFeatureError": Outage,
        "UnsupportedServerFeatureError": Outage,
        "DataError": Rejected,
        "InternalClientError": Outage,
        "ProtocolError": Outage,
        "OutdatedSchemaCacheError": Outage,
    }


def test_every_class_of_the_tree_names_its_remedy():
    for name in errors.__all__:
        text = getattr(errors, name).__doc__
        assert name == "PersistenceError" or "Remedy:" in text


def test_the_cause_is_chained_and_our_own_errors_pass():
    with pytest.raises(Outage) as raised, translated():
        raise ConnectionRefusedError("nobody there")
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    with pytest.raises(errors.FenceLost), translated():
        raise errors.FenceLost("mine")
    assert isinstance(translate(KeyError("?")), Unexpected)


async def test_a_database_that_is_not_migrated_is_an_outage(postgres_server):
    url = await postgres_server.create_database("bare")
    pool = await connect(PersistenceSettings(database_url=url))
    with pytest.raises(Outage, match="sequence_marks"):
        await owned(Writer(pool), "redis", 0, 1, "test")
    await pool.close()
    await postgres_server.drop_database("bare")


async def test_nobody_listening_is_an_outage_when_it_is_first_asked_not_when_it_starts():
    pool = await connect(PersistenceSettings(database_url="postgresql://127.0.0.1:1/none"))
    with pytest.raises(Outage):
        await Writer(pool).probe()
    await pool.close()


async def test_a_read_only_server_is_an_outage(writer, fence, database_pool):
    name = await database_pool.fetchval("SELECT current_database()")
    await database_pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await database_pool.expire_connections()
    with pytest.raises(Outage, match="25006"):
        await writer.write([placed(message())], fence)
    with pytest.raises(Outage, match="25006"):
        await writer.probe()


async def test_a_statement_over_its_time_is_too_slow_and_its_connection_is_not_used_again(
    database_url,
):
    settings = PersistenceSettings(database_url=database_url, database_timeout_seconds=0.2)
    pool = await connect(settings)
    with pytest.raises(TooSlow):
        async with using(pool) as connection:
            await connection.execute("SELECT pg_sleep(30)")
    async with using(pool) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    await pool.close()


async def test_a_cancelled_task_ends_though_the_server_ended_its_connection(
    database_pool, database_url
):
    """It waits for something else meanwhile, as for the log."""
    pool = await connect(PersistenceSettings(database_url=database_url))
    inside = asyncio.Event()

    async def work() -> None:
        async with using(pool) as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await database_pool.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            await eventually(lambda: pool.get_size() == pool.get_idle_size())
            inside.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await inside.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    pool.terminate()


async def test_a_probe_of_a_healthy_database_leaves_nothing_behind(writer, database_pool):
    await writer.probe()
    assert await database_pool.fetchval("SELECT count(*) FROM fences") == 0
