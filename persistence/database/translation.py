"""Translate asyncpg's exceptions into ours (``persistence.errors``), in one place.

The rules are two tables by SQLSTATE (PostgreSQL documentation, appendix A): whole codes first, then
classes (the first two characters). A code in neither table is ``Unexpected``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from persistence.errors import (
    Contended,
    Crowded,
    Outage,
    PersistenceError,
    Rejected,
    SchemaOutdated,
    TooSlow,
    Unexpected,
    UnfitDatabase,
)
from transport.contract import Reason
from transport.tls_refusals import certificate_refusal

__all__ = [
    "ACCESS_REMEDIES",
    "UNNUMBERED",
    "by_class",
    "by_code",
    "lacks_number",
    "translate",
    "translated",
]

by_code: dict[str, type[PersistenceError]] = {
    "25006": Outage,  # the server is read-only (a standby, or under maintenance)
    "25P03": Outage,  # idle in a transaction for too long: this process was suspended
    "25P04": Outage,  # transaction_timeout, which a role may have behind a pooler
    "26000": UnfitDatabase,  # a prepared statement is gone: a pooler gave us another session
    "42P05": UnfitDatabase,  # another client's statement has its name: the same
    "40001": Contended,
    "40P01": Contended,
    "42501": Outage,  # the role lacks a permission: granted by an operator
    "42703": SchemaOutdated,  # a column is missing
    "42P01": SchemaOutdated,  # a table is missing
    "53200": TooSlow,  # out of memory, or of locks: fewer rows need less
    "53400": TooSlow,  # beyond temp_file_limit: the same
    "53300": Crowded,  # too many connections: of the server, of the role or of the database
    "55P03": Contended,  # no lock within lock_timeout
    "57014": TooSlow,  # statement_timeout, or cancelled by an operator
    "P0001": Rejected,  # RAISE EXCEPTION in a trigger of yours: it refuses this record
}
"""Rules for single SQLSTATEs; they precede the class rules."""

by_class: dict[str, type[PersistenceError]] = {
    "08": Outage,  # connection
    "22": Rejected,  # data
    "23": Rejected,  # integrity
    "28": Outage,  # authorization
    "3D": Outage,  # no such database
    "3F": Outage,  # no such schema
    "40": Contended,  # transaction rollback
    "53": Outage,  # resources: disk, memory, connections
    "54": Rejected,  # limits: a key too long for its index is its record's fault
    "55": Outage,  # object not in the needed state, lock not available
    "57": Outage,  # operator intervention: shutdown, recovery
    "58": Outage,  # system: I/O
    "F0": Outage,  # configuration file
    "XX": Outage,  # the server found itself or its data broken
}
"""Rules for whole SQLSTATE classes."""

ACCESS_REMEDIES = {
    "28": "correct the user and the password in DATABASE_URL, or let them in (pg_hba.conf)",
    "3D": "make that database, or correct its name in DATABASE_URL",
}
"""Remedies by SQLSTATE class where PostgreSQL lets nobody in under ``DATABASE_URL``."""

_RESOURCE_REMEDIES = {
    "53100": "its disk is full: make room on it",
    "53200": "it has no memory left: lower STREAM_BATCH_SIZE, or give it more",
    "53400": "a limit of the server or the role is too low: raise temp_file_limit",
}
"""Remedies by SQLSTATE; PostgreSQL's own message may name a file and no reason."""
_UNREACHED = "PostgreSQL can't be reached: check DATABASE_URL, and that it runs"
_AUTHORITIES, _OWN = "sslrootcert in DATABASE_URL", "sslcert in DATABASE_URL"
_OUTDATED = "the database schema is older than this version needs: run `crossfade db upgrade`"
_POOLED = (
    "a prepared statement is not there any more. If a pooler is in transaction mode: set "
    "pool_mode=session, or use pgbouncer 1.21 or later (max_prepared_statements above 0) with "
    "DATABASE_DIRECT_URL"
)
_UNKNOWN_PARAMETER = (
    "a pooler refuses what we set at the start of a session: have it ignore that "
    "(ignore_startup_parameters = application_name, enable_seqscan, jit, statement_timeout, "
    "idle_in_transaction_session_timeout); in session mode it is set then all the same"
)
_POOLER_IS_FULL = (
    "the pooler takes no more connections (pgbouncer: max_client_conn, which has to allow "
    "DATABASE_POOL_SIZE of every process)"
)
_WRAPS_AROUND = (
    "it refuses all writes until old transaction ids are vacuumed away: roll back old prepared "
    "transactions, drop replication slots that nobody uses, end old transactions; then autovacuum "
    "or VACUUM mends it"
)
_TABLE_IS_FULL = (
    "a table has as many pages as PostgreSQL allows: archive old rows (ROWS_RETENTION_DAYS), and "
    "VACUUM it"
)
_PUBLISHED = (
    "a publication keeps rows of this table from being changed and deleted. Have it publish "
    "inserts alone (WITH (publish = 'insert')); or use no column but the primary key in its WHERE, "
    "and all of that in its list of columns. A key that the table lacks is put back by 'crossfade "
    "audit --repair'"
)
UNNUMBERED = (
    "rows of messages get no number: the table has no identity column, as a restore of this table "
    "alone leaves it (pg_restore -t). Nothing is inserted. Run as its owner: ALTER TABLE messages "
    "ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY; then 'crossfade doctor' says what else it "
    "lacks"
)
# A server writes its messages in the language that its ``lc_messages`` says. The file of its source
# that an error comes from is the same in all of them. Limits of the server share the state 54000
# with a key that is too long for its index.
_SERVER_LIMITS = {
    "varsup.c": _WRAPS_AROUND,
    "multixact.c": _WRAPS_AROUND,
    "md.c": _TABLE_IS_FULL,
    "bufmgr.c": _TABLE_IS_FULL,
}
_LOCKS = "lock.c"
_LOCKS_ARE_USED_UP = "its table of locks is full: raise max_locks_per_transaction"
_PUBLICATIONS = "execReplication.c"
_NUMBER = ("messages", "seq")  # no record has it: PostgreSQL gives it
_RETURNED = "connection has been released back to the pool"
_ORPHAN = "message_receipts_message_id_fkey"
_OPTIONS = "guc"  # guc.c; guc_funcs.c has SET since PostgreSQL 16
# A context names the innermost function first, as "PL/pgSQL function house_rules() line 3 at RAISE"
# or "PL/pgSQL関数house_rules()の3行目 - RAISE". A name with other characters is quoted.
_NAME = r'(?:[a-z_][a-z0-9_]*|"(?:[^"]|"")+")'
_FUNCTION = re.compile(rf"({_NAME}(?:\.{_NAME})?)\(")


def translate(error: Exception) -> PersistenceError:  # noqa: PLR0911 - a table of types
    """Translate ``error``. The text never quotes a value (it could be content)."""
    if isinstance(error, PersistenceError):
        return error
    # SQLAlchemy's wrapper, recognized by its attribute: importing SQLAlchemy takes a fifth of a
    # process's start, and only migrations use it.
    if isinstance(driver := getattr(error, "driver_exception", None), Exception):
        return translate(driver)
    if isinstance(error, asyncpg.PostgresError):
        return _from_server(error)
    if isinstance(error, TimeoutError):
        return TooSlow("PostgreSQL gave no answer in time")
    if isinstance(error, OSError):
        remedy = certificate_refusal(error, authorities=_AUTHORITIES, own=_OWN) or _UNREACHED
        return Outage(f"{remedy} ({error})")
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return Outage(f"PostgreSQL can't be reached as configured: {type(error).__name__}")
    if isinstance(error, asyncpg.InterfaceError):
        return _from_client(error)
    if isinstance(error, asyncpg.InternalClientError):
        # asyncpg lost track of the protocol: it happens if the server ends a session during a
        # statement.
        return Outage("the connection to PostgreSQL broke in the middle of a statement")
    return Unexpected(f"{type(error).__name__} from the database client")


def _from_client(error: asyncpg.InterfaceError) -> PersistenceError:
    if isinstance(error, asyncpg.ClientConfigurationError):
        return UnfitDatabase(f"DATABASE_URL can't be used as it is: {error.args[0]}")
    # An error that is also a ValueError: an argument can't be encoded. Its text quotes the
    # argument.
    if isinstance(error, ValueError):
        return Rejected("a value can't be encoded for PostgreSQL")
    if _RETURNED in str(error):  # asyncpg's pool takes a connection back when its session ends
        return Outage(
            "PostgreSQL or the network ended the session in use: the server restarted, or somebody "
            "ended the session"
        )
    return Outage(f"the connection to PostgreSQL is not usable: {error}")


def _from_server(error: asyncpg.PostgresError) -> PersistenceError:
    code = error.sqlstate or ""
    kind, remedy = _meaning(error, code)
    if kind is Rejected:
        return _rejected(error, code)
    # asyncpg's own error has no such message. Its text has the reason that the server closed with.
    message = error.message or str(error) or type(error).__name__
    if remedy:
        return kind(f"{remedy} (PostgreSQL: {message}, SQLSTATE {code})")
    return kind(f"PostgreSQL: {message} (SQLSTATE {code})")


def _meaning(error: asyncpg.PostgresError, code: str) -> tuple[type[PersistenceError], str]:
    """Return what an error means, and the remedy where its own message does not say it."""
    kind, remedy = by_code.get(code) or by_class.get(code[:2]) or Unexpected, ""
    message = error.message or ""
    source = getattr(error, "server_source_filename", None) or ""
    if code == "54000" and source in _SERVER_LIMITS:
        kind, remedy = Outage, _SERVER_LIMITS[source]
    elif source == _PUBLICATIONS:
        kind, remedy = Outage, _PUBLISHED
    elif lacks_number(error):
        kind, remedy = Outage, UNNUMBERED
    elif code == "42704" and source.startswith(_OPTIONS):
        kind, remedy = UnfitDatabase, "an option in DATABASE_URL is not PostgreSQL's"
    elif code == "08P01" and "startup parameter" in message:
        kind, remedy = UnfitDatabase, _UNKNOWN_PARAMETER
    elif code == "08P01" and "no more connections allowed" in message:
        kind, remedy = Crowded, _POOLER_IS_FULL
    elif kind is UnfitDatabase:
        remedy = _POOLED
    elif code.startswith("42") and kind is not Outage and (function := _function_of(error)):
        kind, remedy = Outage, f"a trigger of your own fails, in {function}"
    elif kind is SchemaOutdated:
        remedy = _OUTDATED
    return kind, remedy or _resource_remedy(code, source) or ACCESS_REMEDIES.get(code[:2], "")


def _resource_remedy(code: str, source: str) -> str:
    if code == "53200" and source == _LOCKS:
        return _LOCKS_ARE_USED_UP
    return _RESOURCE_REMEDIES.get(code, "")


def lacks_number(error: asyncpg.PostgresError) -> bool:
    """Return whether PostgreSQL gave a row no number."""
    return error.sqlstate == "23502" and (error.table_name, error.column_name) == _NUMBER


def _function_of(error: asyncpg.PostgresError) -> str | None:
    """Return the function in which the error was raised. We have none of our own."""
    for line in (error.context or "").splitlines():
        if "PL/pgSQL" in line and (called := _FUNCTION.search(line)):
            return f"{called[1]}()"
    return None


def _rejected(error: asyncpg.PostgresError, code: str) -> Rejected:
    # Not the server's message: it may quote the value.
    name = type(error).__name__.removesuffix("Error")
    where = error.constraint_name or error.column_name or _function_of(error)
    text = f"PostgreSQL refuses it: {name} (SQLSTATE {code})" + (f" at {where}" if where else "")
    orphan = error.constraint_name == _ORPHAN
    return Rejected(text, Reason.ORPHAN_RECEIPT if orphan else Reason.REJECTED)


@contextmanager
def translated() -> Iterator[None]:
    """Translate the block's errors into ``PersistenceError``, with the cause chained."""
    try:
        yield
    except PersistenceError:
        raise
    except Exception as error:
        raise translate(error) from error
