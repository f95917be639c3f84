"""A real pgbouncer in front of a PostgreSQL: the distribution's, or a later version.

Debian 12 has 1.18, which does not keep prepared statements. ``TEST_PGBOUNCER`` names a later
program that does; without it, the tests that need it are skipped.
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

__all__ = ["IGNORED", "Pgbouncer", "needs_prepared_statements"]

IGNORED = (
    "application_name, enable_seqscan, jit, statement_timeout, idle_in_transaction_session_timeout"
)
"""The settings that we set at the start of a session."""


_KEEPS_STATEMENTS = (1, 21)


def _installed() -> str | None:
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@cache
def _program(*, keeps: bool) -> str:
    """Return the program that keeps prepared statements, or any."""
    named = os.environ.get("TEST_PGBOUNCER")
    found = (named or _installed()) if keeps else (_installed() or named)
    return found or absent("no pgbouncer: `apt-get install pgbouncer`")


@cache
def _keeps_statements(program: str) -> bool:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)\.(\d+)", told.stdout)
    assert found, told.stdout
    return (int(found[1]), int(found[2])) >= _KEEPS_STATEMENTS


def needs_prepared_statements() -> None:
    """Skip the test where no pgbouncer of 1.21 or later is to be had."""
    if not _keeps_statements(_program(keeps=True)):
        pytest.skip("NOT TESTED: TEST_PGBOUNCER names no pgbouncer of 1.21 or later")


class Pgbouncer(LocalServer):
    """A pgbouncer with a ``pool_mode`` and the startup parameters to ignore.

    ``statements`` is the number of prepared statements that it keeps per session in transaction
    mode.
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
        clients: int = 100,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("pgbouncer", folder / "data", identity=run_as().identity)
        self._postgres, self._mode, self._ignore = postgres, mode, ignore
        self._statements, self._pool_size, self._clients = statements, pool_size, clients
        self._program = _program(keeps=statements > 0)
        self._conf = folder / "pgbouncer.ini"

    def url_of(self, database: str) -> str:
        """Return the address of a database through it."""
        return f"postgresql://crossfade@{self.host}:{self.port}/{database}"

    def set_mode(self, mode: str) -> None:
        """Set the mode for the next start."""
        self._mode = mode

    def _prepare(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        at = self._postgres
        self._conf.write_text(
            f"[databases]\n* = host={at.host} port={at.port} user=crossfade\n"
            f"[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\n"
            f"auth_type = any\npool_mode = {self._mode}\nunix_socket_dir =\n"
            f"ignore_startup_parameters = {self._ignore}\ndefault_pool_size = {self._pool_size}\n"
            f"max_client_conn = {self._clients}\n"
            # Older versions don't know this setting; newer ones keep 200 statements by default.
            + (
                f"max_prepared_statements = {self._statements}\n"
                if _keeps_statements(self._program)
                else ""
            )
        )
        self._conf.chmod(0o644)

    def _command(self) -> list[str]:
        return [*run_as().prefix, self._program, str(self._conf)]

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True
