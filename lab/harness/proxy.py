"""A proxy (nginx or HAProxy) in front of several processes of the service.

Its configuration is that of ``docs/proxies.md``, with one addition: the header ``SERVED_BY`` of
each answer names the process that sent it.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from compose.local.ports import free_port, is_free
from compose.local.server import LocalServer, ServerError

__all__ = ["SERVED_BY", "ProxyKind", "ProxyServer"]

SERVED_BY = "x-served-by"
"""The header with the address of the process that answered: ``host:port``."""

_NGINX_SITE = """\
upstream crossfade {{
{servers}
    keepalive 64;
    keepalive_timeout 60s;
}}

server {{
    listen 127.0.0.1:{port};
    client_max_body_size 17m;

    location / {{
        proxy_pass http://crossfade;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_connect_timeout 2s;
        proxy_next_upstream error timeout http_503 non_idempotent;
        proxy_next_upstream_tries 2;
        proxy_next_upstream_timeout 10s;
        add_header {header} $upstream_addr always;
    }}
}}
"""
_NGINX = """\
user {user};
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
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
_HAPROXY = """\
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    timeout http-keep-alive 60s
    retries 3
    option redispatch 1

frontend messages
    bind 127.0.0.1:{port}
    default_backend crossfade

backend crossfade
    balance leastconn
    http-reuse always
    retry-on conn-failure empty-response response-timeout 503
    option httpchk GET /readyz
    default-server check inter 1s fastinter 250ms fall 2 rise 1
    http-response set-header {header} %[srv_name]
{servers}
"""
_LOOK_SECONDS = 0.1
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class ProxyKind(StrEnum):
    """The program of a proxy."""

    NGINX = "nginx"
    HAPROXY = "haproxy"


class ProxyServer(LocalServer):
    """One proxy on loopback.

    Args:
        kind: The program.
        folder: The folder for its configuration, log and temporary files.
        upstreams: The ports of the processes on this machine.
    """

    def __init__(self, kind: ProxyKind, folder: Path, upstreams: Sequence[int]) -> None:
        super().__init__(kind, folder / kind, port=free_port(), grace=5.0, folder=folder)
        self.kind = kind
        self._directory = folder
        self._upstreams = upstreams

    @property
    def url(self) -> str:
        """The URL that clients use."""
        return f"http://127.0.0.1:{self.port}"

    async def sends_to(self, upstream: int) -> None:
        """Wait until the proxy sends requests to the process at the port ``upstream``.

        Stop no other process before this returns.

        Raises:
            ServerError: it sent none to that process for ``ready_within`` seconds.
        """
        deadline = time.monotonic() + self.ready_within
        while await asyncio.to_thread(self._server_of_one) != f"127.0.0.1:{upstream}":
            if time.monotonic() > deadline:
                raise ServerError(f"{self.kind} sends nothing to 127.0.0.1:{upstream}")
            await asyncio.sleep(_LOOK_SECONDS)

    def _server_of_one(self) -> str:
        """Send one request; return the address of the process that answered, or ``""``."""
        asked = HTTPConnection(self.host, self.port, timeout=5)
        with closing(asked), suppress(OSError, HTTPException):
            asked.request("GET", "/healthz")
            answer = asked.getresponse()
            return (answer.getheader(SERVED_BY) or "").rpartition(",")[2].strip()
        return ""

    def configuration(self) -> str:
        """Return the text of its configuration."""
        servers = [f"127.0.0.1:{port}" for port in self._upstreams]
        if self.kind is ProxyKind.HAPROXY:
            lines = "\n".join(f"    server {server} {server}" for server in servers)
            return _HAPROXY.format(port=self.port, header=SERVED_BY, servers=lines)
        lines = "\n".join(f"    server {server} max_fails=0;" for server in servers)
        return nginx_with(_NGINX_SITE.format(port=self.port, header=SERVED_BY, servers=lines))

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file.write_text(self.configuration())

    @property
    def _file(self) -> Path:
        return self._directory / "configuration"

    def _command(self) -> Sequence[str]:
        program = proxy_program(self.kind)
        if self.kind is ProxyKind.HAPROXY:
            return [program, "-db", "-f", str(self._file)]
        return [program, "-p", str(self._directory), "-c", str(self._file), "-g", "daemon off;"]

    async def _is_ready(self) -> bool:
        return not is_free(self.port)


def nginx_with(site: str) -> str:
    """Return a complete configuration of nginx with ``site``; it writes only to its own folder."""
    return _NGINX.format(user=getpass.getuser(), site=site)


def proxy_program(kind: ProxyKind) -> str:
    """Return the path of the program.

    Raises:
        ServerError: this machine does not have it.
    """
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(kind, path=places)
    if found is None:
        raise ServerError(f"there is no {kind} on the PATH: install the package {kind}")
    return found
