"""A real pgbouncer in front of a PostgreSQL, from the PATH."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from compose.local.postgres import PostgresServer, run_as
from compose.local.server import LocalServer
from tests.support.requirements import absent

__all__ = ["IGNORED", "Pgbouncer"]

IGNORED = (
    "application_name, enable_seqscan, jit, statement_timeout, idle_in_transaction_session_timeout"
)
"""What we set at the start of a session."""


class Pgbouncer(LocalServer):
    """One with a ``pool_mode`` and what it is to ignore of a session's start."""

    def __init__(
        self, folder: Path, postgres: PostgresServer, *, mode: str, ignore: str = IGNORED
    ) -> None:
        program = shutil.which(
            "pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
        )
        if program is None:
            absent("no pgbouncer: `apt-get install pgbouncer`")
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("pgbouncer", folder / "data", identity=run_as().identity)
        self._program, self._postgres, self._mode, self._ignore = program, postgres, mode, ignore
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
            f"ignore_startup_parameters = {self._ignore}\ndefault_pool_size = 60\n"
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
