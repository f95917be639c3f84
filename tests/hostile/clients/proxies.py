"""nginx and HAProxy in front of the service, as ``docs/proxies.md`` configures them."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

from compose.local.ports import free_port, is_free
from compose.local.server import LocalServer
from tests.support.requirements import program

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


class Proxy(LocalServer):
    """One proxy with a configuration of the page, its ports replaced by ours.

    ``kind`` is nginx or haproxy.
    """

    def __init__(self, kind: str, folder: Path, configuration: str, *upstreams: int) -> None:
        super().__init__(kind, folder / kind, port=free_port(), grace=5.0, folder=folder)
        self._kind = kind
        self._folder = folder
        self._configuration = configuration
        self._upstreams = upstreams

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace")

    def _prepare(self) -> None:
        text = self._configuration.replace("8080", str(self.port))
        if len(self._upstreams) == 1:
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if "127.0.0.1:3001" not in line)
        # In one pass: a port of ours may begin with 3001.
        ports = dict(zip(("3000", "3001"), self._upstreams, strict=False))
        text = re.sub(
            r"(127\.0\.0\.1):(300[01])\b", lambda found: f"{found[1]}:{ports[found[2]]}", text
        )
        if self._kind == "nginx":
            text = _NGINX.format(user=getpass.getuser(), site=text)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(text)

    @property
    def _file(self) -> Path:
        return self._folder / "configuration"

    def _command(self) -> list[str]:
        if self._kind == "nginx":
            nginx = program("nginx", package="nginx")
            return [nginx, "-p", str(self._folder), "-c", str(self._file), "-g", "daemon off;"]
        return [program("haproxy", package="haproxy"), "-db", "-f", str(self._file)]

    async def _is_ready(self) -> bool:
        return not is_free(self.port)
