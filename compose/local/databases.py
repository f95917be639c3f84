"""Creates and drops databases on a PostgreSQL server, given the URL of an existing database."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg

__all__ = ["create_database", "drop_database", "url_of"]


def url_of(url: str, database: str) -> str:
    """Return ``url`` with its database replaced."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def create_database(url: str, name: str, *, template: str | None = None) -> str:
    """Create a database if it doesn't exist; return its URL.

    Args:
        url: An existing database of the server.
        name: The database to create.
        template: A database to copy; it must have no sessions.
    """
    copy = f' TEMPLATE "{template}"' if template else ""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"{copy}')
    finally:
        await connection.close()
    return url_of(url, name)


async def drop_database(url: str, name: str) -> None:
    """Drop a database and end its sessions."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()
