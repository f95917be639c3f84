"""nginx in front of a server, and what it believes that it forwarded."""

from __future__ import annotations

from pathlib import Path

from compose.local.ports import free_port, is_free
from compose.local.server import LocalServer
from tests.support.requirements import program

__all__ = ["Nginx"]

_CONFIG = """
daemon off;
master_process off;
worker_processes 1;
error_log {folder}/error.log warn;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
    log_format forwarded '$upstream_addr $status $request_method $uri $upstream_http_connection';
    access_log {folder}/access.log forwarded;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{ server 127.0.0.1:{port}; keepalive 2; }}
    server {{
        listen 127.0.0.1:{own};
        ignore_invalid_headers off;
        underscores_in_headers on;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Nginx(LocalServer):
    """One in front of ``upstream``, a port. ``buffering`` is of request bodies."""

    def __init__(self, folder: Path, upstream: int, *, buffering: bool) -> None:
        super().__init__("nginx", folder / "nginx", port=free_port(), grace=5.0)
        self._folder = folder
        self._upstream = upstream
        self._buffering = "on" if buffering else "off"

    def forwarded(self) -> list[tuple[str, str]]:
        """Return method and path of each request that it sent on, in order.

        Less those that the service refused to read, upon which the two have no connection left to
        disagree on.
        """
        text = (self._folder / "access.log").read_text("latin-1")
        lines = [line.split(" ") for line in text.splitlines()]
        return [(line[2], line[3]) for line in lines if line[0] != "-" and line[4] != "close"]

    def _command(self) -> list[str]:
        config = self._folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                folder=self._folder, port=self._upstream, own=self.port, buffering=self._buffering
            )
        )
        return [program("nginx", package="nginx"), "-c", str(config), "-p", str(self._folder)]

    async def _is_ready(self) -> bool:
        return not is_free(self.port)
