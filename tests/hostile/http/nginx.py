"""nginx in front of a server, and what it believes that it forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from compose.local.ports import free_port
from tests.support.absent import program
from tests.support.eventually import eventually

__all__ = ["Nginx", "nginx"]

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


@dataclass
class Nginx:
    """A running nginx."""

    port: int
    log: Path

    def forwarded(self) -> list[tuple[str, str]]:
        """Return method and path of each request that it sent on, in order.

        Less those that the service refused to read, upon which the two have no connection left to
        disagree on.
        """
        lines = [line.split(" ") for line in self.log.read_text("latin-1").splitlines()]
        return [(line[2], line[3]) for line in lines if line[0] != "-" and line[4] != "close"]


@asynccontextmanager
async def nginx(folder: Path, port: int, *, buffering: bool) -> AsyncIterator[Nginx]:
    """Run one in front of ``port``; ``buffering`` is of request bodies."""
    command = program("nginx", package="nginx")
    own = free_port()
    config = folder / "nginx.conf"
    made = _CONFIG.format(folder=folder, port=port, own=own, buffering="on" if buffering else "off")
    config.write_text(made)
    process = await asyncio.create_subprocess_exec(
        command, "-c", str(config), "-p", str(folder), stderr=asyncio.subprocess.DEVNULL
    )
    try:

        async def listens() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", own)
            writer.close()

        await eventually(_true_when(listens))
        yield Nginx(own, folder / "access.log")
    finally:
        process.terminate()
        await process.wait()


def _true_when(step):
    async def done() -> bool:
        try:
            await step()
        except OSError:
            return False
        return True

    return done
