"""A real pgbouncer in front of a PostgreSQL: from the PATH, or the program in ``TEST_PGBOUNCER``.

Debian 12 has 1.18. What needs a later one is skipped there, and counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from compose.local.postgres import PostgresServer, run_as
from compose.local.server import LocalServer
from tests.support.requirements import absent

__all__ = ["IGNORED", "Pgbouncer", "keeps_statements", "needs_prepared_statements"]

IGNORED = (
    "application_name, enable_seqscan, jit, statement_timeout, idle_in_transaction_session_timeout"
)
"""What we set at the start of a session."""


_KEEPS_STATEMENTS = (1, 21)


@cache
def _program() -> str:
    named = os.environ.get("TEST_PGBOUNCER")
    found = named or shutil.which(
        "pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
    )
    return found or absent("no pgbouncer: `apt-get install pgbouncer`")


@cache
def _version() -> tuple[int, int]:
    told = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)\.(\d+)", told.stdout)
    assert found, told.stdout
    return int(found[1]), int(found[2])


def keeps_statements() -> bool:
    """Return whether this pgbouncer keeps prepared statements in transaction mode, if told to."""
    return _version() >= _KEEPS_STATEMENTS


def needs_prepared_statements() -> None:
    """Skip the test where pgbouncer is older than 1.21.

    In CI too: Debian 12, on which it runs, has no later one.
    """
    if not keeps_statements():
        pytest.skip("NOT TESTED: TEST_PGBOUNCER names no pgbouncer of 1.21 or later")


class Pgbouncer(LocalServer):
    """One with a ``pool_mode`` and what it is to ignore of a session's start.

    ``statements`` is how many prepared statements it keeps for a session in transaction mode.
    """

    def __init__(
        self,
        folder: Path,
        postgres: PostgresServer,
        *,
        mode: str,
        ignore: str = IGNORED,
        statements: int = 0,
        pool_size: int = 60,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("pgbouncer", folder / "data", identity=run_as().identity)
        self._postgres, self._mode, self._ignore = postgres, mode, ignore
        self._statements, self._pool_size = statements, pool_size
        self._conf = folder / "pgbouncer.ini"

    def url_of(self, database: str) -> str:
        """Return the address of a database through it."""
        return f"postgresql://crossfade@{self.host}:{self.port}/{database}"

    def set_mode(self, mode: str) -> None:
        """Have the next start be in another mode."""
        self._mode = mode

    def _prepare(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        at = self._postgres
        self._conf.write_text(
            f"[databases]\n* = host={at.host} port={at.port} user=crossfade\n"
            f"[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\n"
            f"auth_type = any\npool_mode = {self._mode}\nunix_socket_dir =\n"
            f"ignore_startup_parameters = {self._ignore}\ndefault_pool_size = {self._pool_size}\n"
            # Older ones don't know it, newer ones keep 200 unless told.
            + (f"max_prepared_statements = {self._statements}\n" if keeps_statements() else "")
        )
        self._conf.chmod(0o644)

    def _command(self) -> list[str]:
        return [*run_as().prefix, _program(), str(self._conf)]

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True
