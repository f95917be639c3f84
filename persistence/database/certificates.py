"""The certificates of a connection to PostgreSQL: the server's, and our own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlsplit

from persistence.database_url import place_of
from transport.certificates import Certificate, certificate_in_file, certificate_of

if TYPE_CHECKING:
    from persistence.database.pool import Connection
    from persistence.database.servers import ServerConnection

__all__ = ["certificates"]

_DEFAULT = Path("~/.postgresql/postgresql.crt")  # libpq's, which asyncpg reads too


def certificates(connection: Connection) -> list[Certificate]:
    """Return the certificate of the server (or its pooler), and our own; empty without TLS."""
    made = cast("ServerConnection", connection)  # the pool's proxy forwards to it
    if made.certificate is None:
        return []
    found = [certificate_of(place_of(made.url), made.certificate)]
    if own := _own(made.url):
        found.append(certificate_in_file(*own))
    return found


def _own(url: str) -> tuple[str, Path] | None:
    """Return the name and the path of the file with our certificate, as asyncpg finds it."""
    if named := dict(parse_qsl(urlsplit(url).query)).get("sslcert"):
        return "sslcert", Path(named)
    if named := os.environ.get("PGSSLCERT"):
        return "PGSSLCERT", Path(named)
    path = _DEFAULT.expanduser()
    return (str(_DEFAULT), path) if path.is_file() else None
