"""What ``DATABASE_URL`` may say: refused at start where it can't work, and never quoted."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from compose.local.postgres import PostgresServer
from compose.settings import SettingsError, load
from persistence.database.pool import connect, using
from persistence.database_url import check_url, place_of, urls_of
from persistence.errors import UnfitDatabase
from persistence.settings import PersistenceSettings

NO_FILE = Path("/nonexistent/.env")
ODD = "a%b@c/d:e f#g?h\N{LATIN SMALL LETTER E WITH ACUTE}'\"+&=,"
ENCODED = "a%25b%40c%2Fd%3Ae%20f%23g%3Fh%C3%A9%27%22%2B%26%3D%2C"


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_READ_URL"])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://me@h/x", "must start with postgresql://"),
        ('"postgresql://me:hunter2@h/x"', "leave out the quotes"),
        ("postgresql://me:hunter2/a@h:5432/x", "%2F for /"),
        ("postgresql://me:1234/hunter2@h:5432/x", "%2F for /"),
        ("postgresql://me:hunter2@b@h/x", "%40 for @"),
        ("postgresql://me:hunter2#b@h/x", "%23 for #"),
        ("postgresql://me:1234?hunter2@h/x", "%3F for ?"),
        ("postgresql://me:hunter2%zz@h/x", "%25 for %"),
        ("postgresql://me:hunter2@h:one/x", "host:5432"),
        ("postgresql://me:hunter2@h:65536/x", "host:5432"),
        ("postgresql://me:hunter2@h:0/x", "host:5432"),
        ("postgresql://me:hunter2@h1,h2:x/x", "host:5432"),
        ("postgresql://me:hunter2@h/x?sslmode=require&channel_binding=require", "channel_binding"),
        ("postgresql://me:hunter2@h/x?connect_timeout=3", "leave it out"),
        ("postgresql://me:hunter2@h/x?schema=public", "search_path"),
        ("postgresql://me:hunter2@h/x?sslmode=verify-full&sslrootcert=/none.pem", "no such file"),
        ("postgresql://me:hunter2@h/x?sslrootcert=system", "ca-certificates.crt"),
    ],
)
def test_what_can_not_work_is_one_line_with_the_remedy(name: str, url: str, words: str) -> None:
    with pytest.raises(SettingsError) as told:
        load({name: url}, env_file=NO_FILE)
    (problem,) = told.value.problems
    assert problem.startswith(f"{name}='***' can't be used: ")
    assert words in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:x@h:5432/x?sslmode=require&application_name=me",
        "postgres://me@one:5432,[::1]:5433,two/x?target_session_attrs=read-write",
        "postgresql:///x?host=/var/run/postgresql&user=me",
        "postgresql://me@%2Fvar%2Frun%2Fpostgresql/x",
        "postgresql://me@/x?host=a,b&port=1,2",
        "postgresql://h/x?options=-csearch_path%3Dpublic",
        "postgresql://h",
        f"postgresql://me:{ENCODED}@h/x",
    ],
)
def test_what_can_work_is_taken(url: str) -> None:
    check_url(url)


def test_a_line_end_behind_it_does_not_matter() -> None:
    """Files of secrets end with one."""
    check_url("postgresql://me@one,[::1]:5433\n")


def test_a_place_has_no_password() -> None:
    (one, two) = urls_of("postgresql://me:hunter2@%2Frun,[::1]:2/x")
    assert [place_of(one), place_of(two)] == ["/run", "[::1]:2"]


async def test_any_character_may_be_in_a_password(new_postgres) -> None:
    server: PostgresServer = await new_postgres()
    admin = await asyncpg.connect(server.url)
    quoted = await admin.fetchval("SELECT quote_literal($1::text)", ODD)
    await admin.execute(f"CREATE ROLE odd LOGIN PASSWORD {quoted}")
    rules = server.data_dir / "pg_hba.conf"
    rules.write_text(f"host all odd all scram-sha-256\n{rules.read_text()}")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()

    async def user(password: str) -> str:
        url = server.url.replace("crossfade@", f"odd:{password}@", 1)
        pool = await connect(PersistenceSettings(database_url=SecretStr(url)))
        try:
            async with using(pool) as connection:
                return str(await connection.fetchval("SELECT current_user"))
        finally:
            pool.terminate()

    assert await user(ENCODED) == "odd"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("sslmode=often", "`sslmode` parameter must be one of"),
        ("ssl_min_protocol_version=TLSv7", "No such TLS version: TLSv7"),
        ("colour=red", 'unrecognized configuration parameter "colour"'),
    ],
)
async def test_an_option_that_is_wrong_stops_the_start_and_is_named(
    postgres_server, options: str, words: str
) -> None:
    url = SecretStr(f"{postgres_server.url}?{options}")
    pool = await connect(PersistenceSettings(database_url=url))
    with pytest.raises(UnfitDatabase, match="DATABASE_URL") as told:
        async with using(pool):
            pass
    assert words in str(told.value)
    pool.terminate()
