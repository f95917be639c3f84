"""The listening port: it makes uvicorn's connections, and has the state that they share."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import Counter
from uvicorn.config import Config
from uvicorn.server import ServerState

from ingress.http1.answers import header_lines
from ingress.http1.bounds import Bounds
from ingress.http1.connection import HotPath, HttpConnection
from ingress.http1.connections import Connections

__all__ = ["Listener"]


class Listener:
    """One listening port: its limits, and its connections.

    Args:
        bounds: Limits of each request and connection, and of all connections together.
        ended: Counts the connections that the service ends, by reason.
        hot_path: Serves some requests without ASGI. If ``None``, all requests go through ASGI.
    """

    def __init__(self, bounds: Bounds, ended: Counter, hot_path: HotPath | None = None) -> None:
        self.bounds = bounds
        self.connections = Connections(bounds, ended)
        self.hot_path = hot_path
        self.leaving = False
        """Whether connections close after their next answer, because the process will end."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_lines = b""

    def connection(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpConnection:
        """Return the protocol of a new connection.

        Pass this method to ``uvicorn.Config(http=...)``. uvicorn calls it with keyword arguments;
        ``_loop`` is the running loop.
        """
        return HttpConnection(self, config, server_state, app_state)

    def header_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return ``headers`` as lines, cached for as long as the list is the same object.

        uvicorn makes a new list each second.
        """
        if headers is not self._headers:
            self._headers = headers
            self._header_lines = header_lines(headers)
        return self._header_lines
