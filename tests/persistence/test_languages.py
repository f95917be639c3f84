"""Servers whose messages are not in English (``lc_messages``): errors mean the same there.

The context of an error is translated too, and each language has another order of its words.
"""

from __future__ import annotations

import asyncpg
import pytest
from pydantic import SecretStr

from persistence.database.pool import connect, using
from persistence.database.translation import translate
from persistence.errors import Outage, PersistenceError, Rejected, UnfitDatabase
from persistence.settings import PersistenceSettings

_RULES = """
CREATE TABLE rows (id int);
CREATE FUNCTION "Hausordnung"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id = 1 THEN RAISE EXCEPTION '%', NEW.id; END IF;
    INSERT INTO nowhere VALUES (NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER rules BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION "Hausordnung"();
"""


async def _refused(connection: asyncpg.Connection, statement: str) -> PersistenceError:
    with pytest.raises(asyncpg.PostgresError) as raised:
        await connection.execute(statement)
    return translate(raised.value)


@pytest.mark.parametrize("language", ["de", "fr", "ja", "ko", "zh_CN"])
async def test_an_error_means_the_same_in_every_language(
    language: str, monkeypatch, new_postgres
) -> None:
    # The catalogues need a locale other than C, and not one of that language.
    monkeypatch.setenv("LANGUAGE", language)
    server = await new_postgres(lc_messages="C.UTF-8")
    connection = await asyncpg.connect(server.url)
    try:
        if "does not exist" in str(await _refused(connection, "TABLE nowhere")):
            pytest.skip(f"NOT TESTED: this PostgreSQL has no messages in {language}")
        await connection.execute(_RULES)
        refused = await _refused(connection, "INSERT INTO rows VALUES (1)")
        assert type(refused) is Rejected
        assert str(refused).endswith('at "Hausordnung"()')
        broken = await _refused(connection, "INSERT INTO rows VALUES (2)")
        assert type(broken) is Outage, "and not SchemaOutdated, whose remedy is another"
        assert str(broken).startswith('a trigger of your own fails, in "Hausordnung"() (')
    finally:
        await connection.close()
    pool = await connect(PersistenceSettings(database_url=SecretStr(f"{server.url}?colour=red")))
    with pytest.raises(UnfitDatabase, match="an option in DATABASE_URL is not PostgreSQL's"):
        async with using(pool):
            pass
    pool.terminate()
