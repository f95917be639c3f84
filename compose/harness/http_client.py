"""A client that tells apart a request that never left and one that was sent and not answered.

HTTP/1.1 over kept-alive connections, and as little of it as the service speaks. A general client
would cost this machine more than the service it is to load.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

__all__ = ["Client", "HttpAnswer", "NeverSentError", "UnansweredError"]

_HEAD_END = b"\r\n\r\n"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NeverSentError(ConnectionError):
    """No connection could be made: the request never left."""


class UnansweredError(ConnectionError):
    """It was sent, and no answer came: it may have been done or not."""


class HttpAnswer(NamedTuple):
    """An answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)


class Client:
    """Keeps connections open between requests. ``timeout`` bounds one request, in seconds."""

    def __init__(self, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._idle: dict[tuple[str, int], list[Stream]] = defaultdict(list)

    async def get(self, url: str) -> HttpAnswer:
        """GET it. Raises as ``post`` does."""
        return await self._request("GET", url, b"")

    async def post(self, url: str, body: Mapping[str, Any]) -> HttpAnswer:
        """POST ``body`` as JSON.

        Raises:
            NeverSentError: it can't have been done.
            UnansweredError: it may have been done.
        """
        return await self._request("POST", url, json.dumps(body).encode())

    async def close(self) -> None:
        """Drop every connection that is idle."""
        for streams in self._idle.values():
            for _, writer in streams:
                writer.close()
        self._idle.clear()

    async def _request(self, method: str, url: str, body: bytes) -> HttpAnswer:
        parts = urlsplit(url)
        address = parts.hostname or "", parts.port or 80
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        head = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        stream: Stream | None = None
        reusable = False
        try:
            async with asyncio.timeout(self._timeout):
                stream = await self._connected(address)
                stream[1].write(f"{head}\r\n".encode() + body)
                answer, reusable = await _read(stream[0])
                return answer
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            kind = NeverSentError if stream is None else UnansweredError
            raise kind(f"{type(error).__name__}: {error}") from error
        finally:
            if stream is not None:
                if reusable:
                    self._idle[address].append(stream)
                else:
                    stream[1].close()

    async def _connected(self, address: tuple[str, int]) -> Stream:
        idle = self._idle[address]
        while idle:
            reader, writer = idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()  # the server ended it while nothing was asked of it
        return await asyncio.open_connection(*address)


async def _read(reader: asyncio.StreamReader) -> tuple[HttpAnswer, bool]:
    """Return an answer, and whether its connection can take another request."""
    head = (await reader.readuntil(_HEAD_END)).decode("latin-1")
    first, *lines = head[: -len(_HEAD_END)].split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status = int(first.split(" ", 2)[1])
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
        lasting = first.startswith("HTTP/1.1") and headers.get("connection", "") != "close"
    else:
        body, lasting = await reader.read(), False
    return HttpAnswer(status, headers, body), lasting
