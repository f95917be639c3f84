"""nginx and HAProxy in front of the service, as ``docs/proxies.md`` configures them."""

from __future__ import annotations

import asyncio
import getpass
import re
from pathlib import Path

from compose.local.ports import free_port
from compose.local.process import ServerProcess
from tests.support.absent import program

__all__ = ["Proxy", "documented"]

_DOCUMENT = Path(__file__).parents[3] / "docs" / "proxies.md"
_NGINX = """\
user {user};
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{site}
}}
"""


def documented(kind: str) -> str:
    """Return the configuration that the page shows for ``kind``: nginx or haproxy."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", _DOCUMENT.read_text("utf-8"), re.DOTALL)
    return block


class Proxy:
    """One running proxy. ``kind`` is nginx or haproxy."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        self._kind = kind
        self._folder = folder
        self._process = ServerProcess(
            kind,
            data_dir=folder / "data",
            log_path=folder / f"{kind}.log",
            grace=5.0,
            folder=folder,
        )

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._process.log_path.read_text(errors="replace")

    async def start(self, configuration: str, *upstreams: int) -> None:
        """Start it with a configuration of the page, its ports replaced by ours."""
        text = configuration.replace("8080", str(self.port))
        for shown, port in zip(("3000", "3001"), upstreams, strict=False):
            text = text.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
        if len(upstreams) == 1:
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if "127.0.0.1:3001" not in line)
        await self._process.start(await asyncio.to_thread(self._command, text), self._answers)

    async def stop(self) -> None:
        """Stop it."""
        await self._process.stop()

    def _command(self, text: str) -> list[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "configuration"
        if self._kind == "nginx":
            file.write_text(_NGINX.format(user=getpass.getuser(), site=text))
            nginx = program("nginx", package="nginx")
            return [nginx, "-p", str(self._folder), "-c", str(file), "-g", "daemon off;"]
        file.write_text(text)
        return [program("haproxy", package="haproxy"), "-db", "-f", str(file)]

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
