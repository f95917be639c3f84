"""The HTTP server around the application: uvicorn, started and stopped by us."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import uvicorn

from compose.local.ports import pick
from compose.process.health import Application
from transport.errors import ConfigurationError

__all__ = ["bind", "listen_near", "serve"]

_BACKLOG = 2048
# Bytes, of each connection (they inherit it). The kernel's own choice goes up to megabytes, which a
# client that reads nothing makes us fill.
_SEND_BUFFER = 128 * 1024
_KEEP_ALIVE = 75  # seconds; longer than the idle time of common proxies' connections (60)


class PortTakenError(ConfigurationError):
    """Another program listens on PORT."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve what the kernel has accepted already, too: it would be reset with its listener."""
        waiting = [each for listener in sockets or [] for each in _accepted(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone: ``compose.process.signals`` stops the parts in order."""
        yield


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that nobody has taken from ``listener`` yet."""
    listener.setblocking(False)
    with suppress(OSError):  # no more (BlockingIOError), or no descriptor for it
        while True:
            yield listener.accept()[0]


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host:port``.

    Raises:
        ConfigurationError: the port is taken or the address is not ours.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(
            f"HOST={host} is not an address of this machine: {error.strerror}"
        ) from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(host, port, error) from error
    return bound


def listen_near(host: str, port: int) -> tuple[socket.socket, int]:
    """Return a socket that listens on ``host:port`` or the next free port up, and that port.

    Nobody else can take it from now on. What connects waits until the application is served.

    Raises:
        ConfigurationError: the address is not ours.
    """
    while True:
        candidate = pick(port, host)  # never the same one twice
        try:
            bound = bind(host, candidate)
        except PortTakenError:
            continue
        try:
            bound.listen(_BACKLOG)
        except OSError as error:
            bound.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise _unusable(host, candidate, error) from error
        return bound, candidate


def _unusable(host: str, port: int, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"PORT={port} is taken on {host}: stop what listens there, or set PORT to another"
        )
    return ConfigurationError(f"HOST={host} PORT={port} can't be listened on: {error.strerror}")


async def serve(
    app: Application,
    bound: socket.socket,
    stop: asyncio.Event,
    *,
    grace_seconds: int,
    started: Callable[[], None],
) -> None:
    """Serve until ``stop`` is set, then finish the requests under way, for ``grace_seconds``.

    The application's lifespan ends after the last request: there it flushes what it holds.

    Raises:
        ConfigurationError: another process listens on the port of ``bound`` since it was bound.
    """
    try:
        bound.listen(_BACKLOG)  # another process may have bound it too, as long as neither listens
    except OSError as error:
        host, port, *_ = bound.getsockname()
        raise _unusable(host, port, error) from error
    server = _Server(
        uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", app.listener.connection),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,  # logs go where all others go
            server_header=False,
            proxy_headers=False,  # nothing here trusts a forwarded address
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=grace_seconds,
        ),
        started,
    )

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[bound])
    finally:
        ending.cancel()
    if not server.started:
        raise RuntimeError("the application did not start; the log says why")
