"""The HTTP server around the application: uvicorn, started and stopped by us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import uvicorn

from compose.process.health import Application
from compose.process.listening_socket import BACKLOG, listen
from persistence.database.outage import stopped_within

__all__ = ["serve"]

_DATE_SECONDS = 1.0


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, stop: asyncio.Event, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._on_started = on_started

    async def main_loop(self) -> None:
        """Renew the ``Date`` header each second until ``stop`` is set.

        uvicorn's own loop wakes ten times a second, which would cost an idle process CPU time.
        """
        while not self._stop.is_set():
            await self.on_tick(0)
            await stopped_within(self._stop, _DATE_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve also the connections in the listen queue: closing the listener would reset them."""
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
    """Yield the connections that wait in the queue of ``listener``."""
    listener.setblocking(False)
    with suppress(OSError):  # the queue is empty (BlockingIOError), or descriptors ran out
        while True:
            yield listener.accept()[0]


async def serve(
    app: Application,
    bound: socket.socket,
    stop: asyncio.Event,
    *,
    grace_seconds: int,
    started: Callable[[], None],
) -> None:
    """Serve until ``stop`` is set, then finish the requests under way within ``grace_seconds``.

    The application's lifespan ends after the last request, and flushes the application's buffers.

    Args:
        app: The application.
        bound: The bound socket; this function makes it listen.
        stop: Ends serving.
        grace_seconds: Time for the requests that are under way at the stop.
        started: Called once the server accepts requests.

    Raises:
        ConfigurationError: another process began to listen on the port after ``bound`` was bound.
        RuntimeError: the application did not start.
    """
    listen(bound)  # two processes can bind a port, and only the first to listen gets it
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
            backlog=BACKLOG,
            timeout_graceful_shutdown=grace_seconds,
        ),
        stop,
        started,
    )
    await server.serve(sockets=[bound])
    if not server.started:
        raise RuntimeError("the application did not start; the log says why")
