"""A real pgpool-II in front of a primary and its standby: Debian's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from compose.local.ports import free_port
from compose.local.server import LocalServer
from tests.support.postgres_pair import PostgresPair
from tests.support.requirements import absent

__all__ = ["Pgpool"]

_CONF = """
backend_clustering_mode = 'streaming_replication'
listen_addresses = '{host}'
port = {port}
pcp_port = {pcp_port}
socket_dir = '{folder}'
pcp_socket_dir = '{folder}'
pid_file_name = '{folder}/pgpool.pid'
logdir = '{folder}'
work_dir = '{folder}'
sr_check_user = 'crossfade'
sr_check_database = 'postgres'
num_init_children = 8
"""
_BACKEND = """
backend_hostname{n} = '{server.host}'
backend_port{n} = {server.port}
backend_weight{n} = {n}
"""


class Pgpool(LocalServer):
    """A pgpool-II with its default settings and ``more``; it reads from the standby alone."""

    def __init__(self, folder: Path, servers: PostgresPair, **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__("pgpool", folder / "data", stop_signal=signal.SIGINT)
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        self._program = shutil.which("pgpool", path=path) or absent(
            "no pgpool: `apt-get install pgpool2`"
        )
        self._servers, self._more = servers, more

    def url_of(self, database: str) -> str:
        """Return the address of a database through it."""
        return f"postgresql://crossfade@{self.host}:{self.port}/{database}"

    def _prepare(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        place = {"host": self.host, "port": self.port, "folder": self.data_dir}
        conf = _CONF.format(pcp_port=free_port(), **place)
        for n, server in enumerate((self._servers.primary, self._servers.standby)):
            conf += _BACKEND.format(n=n, server=server)
        conf += "".join(f"{name} = '{value}'\n" for name, value in self._more.items())
        (self.data_dir / "pgpool.conf").write_text(conf)
        (self.data_dir / "pcp.conf").touch()

    def _command(self) -> list[str]:
        conf, pcp = self.data_dir / "pgpool.conf", self.data_dir / "pcp.conf"
        return [self._program, "-n", "-f", str(conf), "-F", str(pcp)]

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True
