"""An HTTP client that tells requests that were never sent from requests without an answer."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lab.load.connection import HttpAnswer, LoadConnection
from lab.load.form import Form

__all__ = ["Client", "NeverSentError", "UnansweredError"]


class NeverSentError(ConnectionError):
    """No connection could be made, so the request was never sent."""


class UnansweredError(ConnectionError):
    """The request was sent and no answer came: the server may have processed it or not."""


class Client:
    """An HTTP client that keeps connections open between requests.

    Args:
        timeout: Time limit of one request, in seconds.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._idle: dict[tuple[str, int], list[LoadConnection]] = defaultdict(list)
        self._waiting: dict[LoadConnection, asyncio.Future[HttpAnswer | None]] = {}

    async def get(self, url: str) -> HttpAnswer:
        """GET ``url``. Raises the same errors as ``post``."""
        return await self._request("GET", url, b"")

    async def post(self, url: str, body: Mapping[str, Any] | Form) -> HttpAnswer:
        """POST ``body``: a ``Form`` as it is, a mapping as JSON.

        Raises:
            NeverSentError: the request was never sent.
            UnansweredError: the request was sent, and may have been processed.
        """
        if isinstance(body, Form):
            return await self._request("POST", url, body.body, body.media_type)
        return await self._request("POST", url, json.dumps(body).encode())

    async def close(self) -> None:
        """Close all idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _request(
        self, method: str, url: str, body: bytes, media_type: str = "application/json"
    ) -> HttpAnswer:
        parts = urlsplit(url)
        address = parts.hostname or "", parts.port or 80
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        head = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        if body:
            head += f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        connection: LoadConnection | None = None
        answer: HttpAnswer | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connected(address)
                answer = await self._exchange(connection, f"{head}\r\n".encode() + body)
        except (OSError, TimeoutError) as error:
            kind = NeverSentError if connection is None else UnansweredError
            raise kind(f"{method} {url}: {type(error).__name__}: {error}") from error
        finally:
            if connection is not None:
                if answer and connection.open and answer.headers.get("connection") != "close":
                    self._idle[address].append(connection)
                else:
                    connection.close()
        if answer is None:
            raise UnansweredError(f"{method} {url}: the connection ended before the answer did")
        return answer

    async def _connected(self, address: tuple[str, int]) -> LoadConnection:
        idle = self._idle[address]
        while idle:
            connection = idle.pop()
            if connection.open:
                return connection  # else the server closed it while it was idle
        return await LoadConnection.to(address, self._answered)

    async def _exchange(self, connection: LoadConnection, request: bytes) -> HttpAnswer | None:
        waiting: asyncio.Future[HttpAnswer | None] = asyncio.get_running_loop().create_future()
        self._waiting[connection] = waiting
        connection.send(request)
        try:
            return await waiting
        finally:
            del self._waiting[connection]

    def _answered(self, connection: LoadConnection, answer: HttpAnswer | None) -> None:
        waiting = self._waiting.get(connection)
        if waiting and not waiting.done():
            waiting.set_result(answer)
