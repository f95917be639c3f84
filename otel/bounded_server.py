"""A small threaded HTTP server that strangers can't fill: few threads, each for a short time."""

from __future__ import annotations

import socket
import time
from socketserver import ThreadingMixIn
from threading import Lock
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

__all__ = ["BoundedServer"]

_PAUSE = 0.2  # seconds


class BoundedServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application, one request a connection.

    Past the limit of connections, the oldest that has sent no request is closed, else the oldest.

    Args:
        address: host and port to listen on.
        application: answers the requests.
        connections: the most connections at once.
        seconds: the longest that one connection lasts, whether its client sends or reads slowly.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        application: WSGIApplication,
        *,
        connections: int,
        seconds: float,
    ) -> None:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self._most = connections
        self._seconds = seconds
        self._lock = Lock()
        self._open: dict[socket.socket, float] = {}
        self._asked: set[socket.socket] = set()
        super().__init__(address, _Handler)
        self.set_app(application)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; wait if descriptors ran out, or this would be tried without end."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, and make room for it first."""
        with self._lock:
            if len(self._open) >= self._most:
                silent = (client for client in self._open if client not in self._asked)
                self._end(next(silent, None) or next(iter(self._open)))
            self._open[request] = time.monotonic()
        super().process_request(request, client_address)

    def asked(self, request: socket.socket) -> None:
        """Record that a connection has sent its request."""
        with self._lock:
            if request in self._open:
                self._asked.add(request)

    def service_actions(self) -> None:
        """End connections that have lasted too long; called twice a second."""
        too_old = time.monotonic() - self._seconds
        with self._lock:
            for client in [client for client, since in self._open.items() if since < too_old]:
                self._end(client)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._forget(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about clients that disconnect, or are disconnected."""

    def _end(self, client: socket.socket) -> None:
        self._forget(client)
        try:
            client.shutdown(socket.SHUT_RDWR)  # its thread wakes, and closes it
        except OSError:
            return  # the client closed it first

    def _forget(self, client: socket.socket) -> None:
        self._open.pop(client, None)
        self._asked.discard(client)


class _Handler(WSGIRequestHandler):
    server: BoundedServer

    def parse_request(self) -> bool:
        sound = super().parse_request()
        if sound:
            self.server.asked(self.connection)
        return sound

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing: scrapes come every few seconds."""
