"""``python -m lab.bench.payloads.distant_store``: an S3 store that answers after a millisecond.

It simulates a store on other machines, which adds waiting time but uses none of our CPU time. It
answers every read with the same content, and stores only small objects, such as the mark of a
service. Another benchmark measures a real S3 server.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import cast

import uvloop

from lab.bench.payloads.samples import content

__all__: list[str] = []

_SECONDS = 0.001
_KEPT_BYTES = 1000
_HEAD = (
    b'HTTP/1.1 %b\r\nLast-Modified: Fri, 27 Nov 2026 10:00:00 GMT\r\nETag: "1"\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n%b\r\n"
)
_NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code></Error>"


class _Connection(asyncio.Protocol):
    """A connection whose client sends its next request only after the last answer."""

    def __init__(self, content: bytes, kept: dict[bytes, bytes]) -> None:
        self._content = content
        self._kept = kept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, _ = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = bytes(head).split(b"\r\n")
        fields = {name.lower(): value for name, _, value in (x.partition(b": ") for x in lines)}
        end = len(head) + 4 + int(fields.get(b"content-length", 0))
        if len(self._received) < end:
            return
        body = bytes(self._received[len(head) + 4 : end])
        del self._received[:end]
        method, path, _ = first.split(b" ")
        self._loop.call_later(_SECONDS, self._answer, method, path, fields.get(b"range"), body)

    def _answer(self, method: bytes, path: bytes, span: bytes | None, body: bytes) -> None:
        if method == b"PUT":
            if len(body) < _KEPT_BYTES:
                self._kept[path] = body
            self._transport.write(_HEAD % (b"200 OK", 0, b""))
            return
        found = self._kept.get(path, b"" if b"/." in path else self._content)
        status, more = b"200 OK", b""
        if not found:
            status, found = b"404 Not Found", _NO_SUCH_KEY
        elif span is not None:
            first, _, last = span.removeprefix(b"bytes=").partition(b"-")
            begin, end = int(first), min(int(last or len(found)), len(found) - 1)
            more = b"Content-Range: bytes %d-%d/%d\r\n" % (begin, end, len(found))
            status, found = b"206 Partial Content", found[begin : end + 1]
        head = _HEAD % (status, len(found), more)
        self._transport.write(head if method == b"HEAD" else head + found)


async def _main(port: int) -> None:
    make = partial(_Connection, content(), {})
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
