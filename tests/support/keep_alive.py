"""Clients that keep their connections open, send repeatedly, and count failures."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["KeepAliveLoad", "keep_alive_load"]

_numbers = itertools.count()  # no key is sent twice


class KeepAliveLoad:
    """The outcome of the requests so far."""

    def __init__(self, port: int, pause: float) -> None:
        self._port = port
        self._pause = pause
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        """Connections that were refused, reset, or closed without an answer."""
        self.told_to_leave = 0
        """Answers with ``Connection: close``."""
        self.retry_after: set[int] = set()
        """The values of ``Retry-After`` headers, in seconds."""

    async def send_for_ever(self) -> None:
        """Run one client, which closes its connection only if an answer says so."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self.faults.append(f"no connection: {error}")
                await asyncio.sleep(0.01)
                continue
            try:
                while await self._send(reader, writer):
                    pass
            except (OSError, EOFError) as error:
                self.faults.append(f"no answer: {error!r}")
            finally:
                writer.close()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        number = next(_numbers)
        body = json.dumps(
            {"conversationId": f"conversation {number % 50}", "senderId": "load", "content": "x",
             "clientMessageId": str(number)}
        ).encode()  # fmt: skip
        writer.write(
            b"POST /api/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(_number(head, b"content-length"))
        self.statuses[int(head.split()[1])] += 1
        if b"retry-after" in head:
            self.retry_after.add(_number(head, b"retry-after"))
        if b"connection: close" in head:
            self.told_to_leave += 1
            return False
        await asyncio.sleep(self._pause)
        return True


def _number(head: bytes, header: bytes) -> int:
    return int(head.partition(header + b": ")[2].partition(b"\r\n")[0])


@asynccontextmanager
async def keep_alive_load(
    port: int, clients: int, *, pause: float = 0.0
) -> AsyncIterator[KeepAliveLoad]:
    """Send from ``clients`` clients until the block ends; each pauses ``pause`` seconds."""
    load = KeepAliveLoad(port, pause)
    sending = [asyncio.create_task(load.send_for_ever()) for _ in range(clients)]
    try:
        yield load
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
