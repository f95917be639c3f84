"""PostgreSQL servers for single tests that accept TLS connections."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compose.local.postgres import PostgresServer
from compose.local.server import ServerError
from tests.support.certificates import Certificate

__all__ = ["made_of", "running"]


def made_of(initialized: Path, data: Path, certificate: Certificate) -> PostgresServer:
    """Return a server, not started, that accepts TLS connections with ``certificate``."""
    shutil.copytree(initialized, data)
    for kept, name in ((certificate.certificate, "server.crt"), (certificate.key, "server.key")):
        shutil.copy(kept, data / name)
        (data / name).chmod(0o600)
        shutil.chown(data / name, data.stat().st_uid, data.stat().st_gid)
    with (data / "postgresql.auto.conf").open("a") as conf:
        conf.write("ssl = on\n")
    return PostgresServer(data)


@asynccontextmanager
async def running(made: PostgresServer) -> AsyncIterator[PostgresServer]:
    """Run the server, with an empty database called ``crossfade``."""
    try:
        await made.start()
    except ServerError as error:
        pytest.skip(f"PostgreSQL was built without TLS: {error}")
    try:
        await made.create_database("crossfade")
        yield made
    finally:
        await made.stop()
