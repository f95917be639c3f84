"""Settings that a role or a database gives each of its sessions, and how to take them back."""

from __future__ import annotations

__all__ = ["reset_statement"]

_STATEMENTS = {  # by ``pg_settings.source``
    "database": "ALTER DATABASE {database} RESET {name}",
    "user": "ALTER ROLE {role} RESET {name}",
    "database user": "ALTER ROLE {role} IN DATABASE {database} RESET {name}",
    "global": "ALTER ROLE ALL RESET {name}",
}


def reset_statement(name: str, source: str, *, role: str, database: str) -> str | None:
    """Return the statement that takes a setting back; ``None`` if the server itself has it so.

    For a setting that makes sessions read-only these are three statements: a session of that role
    and database would refuse the one.

    Args:
        name: The setting.
        source: ``pg_settings.source`` of it, in a session of the role.
        role: The role, quoted as SQL needs it.
        database: The database, quoted likewise.
    """
    statement = _STATEMENTS.get(source)
    reset = statement and statement.format(name=name, role=role, database=database)
    if reset and name == "default_transaction_read_only":
        return f"BEGIN READ WRITE; {reset}; COMMIT"
    return reset
