"""Run the migrations from code: no ``alembic.ini``, no second driver, no working directory.

Several processes may start at once: a session advisory lock lets one migrate while others wait.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from persistence.database.servers import Servers
from persistence.database.translation import translated
from persistence.errors import AnotherApplication
from persistence.schemas import ANOTHER_APPLICATIONS, OWN_SCHEMA, misplacement
from persistence.tables.models import metadata
from transport.errors import ConfigurationError

__all__ = ["Revision", "current", "downgrade", "is_newer", "latest", "steps_down", "upgrade"]

# Any constant serves, as long as every version uses the same: the letters of "migrate".
_LOCK = 0x6D6967726174
_ASK_AGAIN = 0.2
# The role may have timeouts for the service's own statements (docs/postgresql.md). An index of a
# large table takes longer.
_SESSION = {
    "application_name": "crossfade",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "enable_seqscan": "on",
}
_NEWER = "it is at {}, which this version does not know; use the version that made it"
_STEPS = re.compile(r"[+-][0-9]{1,4}")


class Revision(NamedTuple):
    """One migration of the schema: its revision, and its title."""

    revision: str
    title: str


async def upgrade(url: str, revision: str = "head") -> str | None:
    """Migrate the database at ``url`` up to ``revision``, and return the revision it is at then.

    A schema that a newer version made stays as it is: somebody goes back to this version, whose
    deployment runs this at each start.

    Raises:
        ConfigurationError: there is no such revision, or the schema is not one to make tables in
            (``persistence.schemas``), such as another application's.
        Outage: the database can't be reached, or refused.
    """
    _must_exist(revision)
    return await _locked(url, lambda config: command.upgrade(config, revision), goes_up=True)


async def downgrade(url: str, revision: str) -> str | None:
    """Migrate down to ``revision`` (``base`` removes everything); return the revision then.

    Raises:
        ConfigurationError: there is no such revision, or the schema is another application's.
        Outage: the database can't be reached, or refused.
    """
    _must_exist(revision)
    return await _locked(url, lambda config: command.downgrade(config, revision))


async def current(url: str) -> str | None:
    """Return the revision that the database is at; ``None`` if it was never migrated.

    Raises:
        AnotherApplication: it is at the revision of another application's schema.
        Outage: the database can't be reached.
    """
    return await _with_connection(url, _revision_of)


async def steps_down(url: str, revision: str) -> list[Revision]:
    """Return the revisions that ``downgrade`` would undo, in its order; change nothing.

    Raises:
        ConfigurationError: there is no such revision, or the schema is another application's.
        Outage: the database can't be reached.
    """
    _must_exist(revision)
    at = await current(url)
    if at is None:
        return []
    if is_newer(at):
        raise ConfigurationError(f"the schema can't be taken there: {_NEWER.format(at)}")
    scripts = ScriptDirectory.from_config(_config())
    undone = [
        Revision(script.revision, script.doc) for script in scripts.walk_revisions("base", at)
    ]
    if revision.startswith("-"):
        return undone[: int(revision[1:])]
    known = scripts.get_revision(revision)
    ends = [n for n, step in enumerate(undone) if known and step.revision == known.revision]
    return undone[: ends[0]] if ends else undone if known is None else []


def latest() -> str | None:
    """Return the newest revision this version of the code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def is_newer(revision: str) -> bool:
    """Return whether a revision that a database is at is newer than those of this version."""
    newest = latest()
    return newest is not None and revision > newest


def _must_exist(revision: str) -> None:
    if _STEPS.fullmatch(revision):
        return  # a number of steps from the present revision
    scripts = ScriptDirectory.from_config(_config())
    try:
        scripts.get_revisions(revision)
    except (CommandError, AssertionError) as error:  # alembic asserts that it is not empty
        revisions = ", ".join(sorted(script.revision for script in scripts.walk_revisions()))
        raise ConfigurationError(
            f"{revision!r} is no revision of the schema: give base, head or one of {revisions}"
        ) from error


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "persistence:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision_of(connection: Connection) -> str | None:
    revisions = MigrationContext.configure(connection).get_current_heads()
    if not revisions:
        return None
    if schema := connection.exec_driver_sql(ANOTHER_APPLICATIONS).scalar():
        raise AnotherApplication(
            f"the table alembic_version in schema {schema} is another application's (it has "
            f"{', '.join(revisions)}): no tables of Crossfade are there. {OWN_SCHEMA}"
        )
    return revisions[0]


async def _locked(url: str, run: Callable[[Config], None], *, goes_up: bool = False) -> str | None:
    refused: list[CommandError] = []

    def migrate(connection: Connection) -> str | None:
        try:
            run(_config(connection))
        except CommandError as error:  # such as more steps than there are
            refused.append(error)
        return _revision_of(connection)

    # The lock has its own connection: a migration opens and ends transactions as it likes.
    with translated():
        guard = await Servers(url).connect(server_settings=_SESSION)
        try:
            # Polled: a statement that waits for the lock has a snapshot, and CREATE INDEX
            # CONCURRENTLY waits until every older snapshot is gone.
            while not await guard.fetchval(  # noqa: ASYNC110 - PostgreSQL tells nobody
                "SELECT pg_try_advisory_lock($1)", _LOCK
            ):
                await asyncio.sleep(_ASK_AGAIN)
            at = await _with_connection(url, _revision_of)
            astray = None
            if goes_up and at != latest():
                astray = await misplacement(guard, metadata.tables)
            stays = goes_up and at is not None and is_newer(at)
            if not astray and not stays:
                at = await _with_connection(url, migrate)
        finally:
            await guard.close()
    if astray:
        raise ConfigurationError(astray)
    for error in refused:
        why = _NEWER.format(at) if at is not None and is_newer(at) else error
        raise ConfigurationError(f"the schema can't be taken there: {why}") from error
    return at


async def _with_connection(url: str, work: Callable[[Connection], str | None]) -> str | None:
    # asyncpg reads the URL itself, so every option of libpq (sslmode, ...) means the same here as
    # on the data path.
    connect = partial(Servers(url).connect, server_settings=_SESSION)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    with translated():
        try:
            async with engine.connect() as connection:
                result = await connection.run_sync(work)
                await connection.commit()
                return result
        finally:
            await engine.dispose()
