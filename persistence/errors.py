"""Every error that persistence may raise, each with its remedy.

    PersistenceError
    ├── Outage            the database can't do it now: pause, back off, retry for ever
    │   ├── TooSlow       no answer in time, or no memory: the same, with fewer rows at once
    │   ├── Contended     a deadlock or a serialization failure: retry at once
    │   │   └── LeftOut   no row was inserted, and none stands in the way: the same, a few times
    │   ├── Crowded       no connection is left for this process: others may have some
    │   ├── SchemaOutdated  a table or a column is missing: an operator migrates the schema
    │   ├── UnfitDatabase   a pooler or an engine can't do what is needed: an operator changes it
    │   └── Unexpected    not understood: retried like an outage, never dead-lettered
    ├── Rejected          this record can't be stored, for its own fault: isolate, dead-letter
    └── FenceLost         a newer owner writes this partition: drop the batch, leave the partition

``persistence.database.translation`` makes these from asyncpg's, in one place, and chains the
cause.
"""

from __future__ import annotations

from transport.contract import Reason

__all__ = [
    "AnotherApplication",
    "Contended",
    "Crowded",
    "FenceLost",
    "LeftOut",
    "Outage",
    "PersistenceError",
    "Rejected",
    "SchemaOutdated",
    "TooSlow",
    "Unexpected",
    "UnfitDatabase",
]


class PersistenceError(Exception):
    """Root of the tree. Catch it to handle any failure of the store."""


class Outage(PersistenceError):  # noqa: N818 - a state of the world, not a mistake
    """The database can't be reached, or can't do this now. The statement may have committed.

    Remedy: retry the same batch; the unique key makes that safe. The text names the state an
    operator has to look at (connection, disk, permission, missing migration).
    """


class TooSlow(Outage):
    """No answer within ``DATABASE_TIMEOUT_SECONDS``, or the server cancelled the statement.

    Also a statement for which the server lacked memory, locks or temporary space.

    Remedy: retry, with fewer rows in one statement.
    """


class Contended(Outage):
    """Another transaction stood in the way (SQLSTATE 40001, 40P01), or a row just vanished.

    Remedy: retry at once; after a few times treat it as any outage.
    """


class LeftOut(Contended):
    """A record was not inserted, and no row has its key or its id.

    That row was deleted a moment ago; or a unique index or a trigger of your own leaves the record
    out, in silence.

    Remedy: retry at once. If it is left out each time, ``Writer.write`` raises ``Rejected``.
    """


class Crowded(Outage):
    """The server (SQLSTATE 53300), or a pooler in front of it, takes no more connections.

    Remedy: a worker that has none gives its partitions up to processes that have. An operator
    raises ``max_connections`` or lowers ``DATABASE_POOL_SIZE``.
    """


class SchemaOutdated(Outage):
    """A table or a column that this version uses is missing (SQLSTATE 42P01, 42703).

    Remedy: run ``crossfade db upgrade`` against this database. Waiting workers go on by themselves.
    """


class UnfitDatabase(Outage):
    """The server, or the pooler in front of it, lacks what the service needs; the text names it.

    Remedy: the text has it. A process refuses to start; one that runs waits, and goes on by itself.
    """


class AnotherApplication(UnfitDatabase):
    """``alembic_version`` has another application's revision.

    Remedy: a schema or a database of our own. In a shared one, each of the two would take the
    other's revision for its own.
    """


class Unexpected(Outage):
    """An error this version has no rule for.

    Remedy: none that is automatic. It is retried and logged with its traceback, and the record
    stays in the log: an error that is not understood makes no dead letter. Report it.
    """


class Rejected(PersistenceError):  # noqa: N818 - a verdict on the data, not a mistake of ours
    """PostgreSQL can't store a record of this batch; a retry can't succeed.

    ``reason`` is the dead letter's, when the record is alone. The text has no message content.

    Remedy: isolate the record, try it alone, dead-letter it, go on.
    """

    def __init__(self, message: str, reason: Reason = Reason.REJECTED) -> None:
        super().__init__(message)
        self.reason = reason


class FenceLost(PersistenceError):  # noqa: N818 - a state of the world, not a mistake
    """A newer owner has taken this partition; nothing was written.

    ``held`` is the epoch that holds the fence, where it is known.

    Remedy: drop the batch in hand and leave the partition. The new owner reads the same records.
    """

    def __init__(self, message: str, held: int | None = None) -> None:
        super().__init__(message)
        self.held = held
