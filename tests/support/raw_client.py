"""A client in its own process that sends arbitrary bytes, and does not share the server's CPU."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Answer", "RawClient", "raw_client"]

# Sends the file named on each line of its input, and writes what comes back beside it.
_SCRIPT = """
import socket, sys, threading
for line in sys.stdin:
    port, path = line.rstrip("\\n").split(" ", 1)
    data = open(path, "rb").read()
    answer = b""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=120) as connection:
        def send():
            try:
                connection.sendall(data)
            except OSError:
                pass  # refused before it was all read
        sending = threading.Thread(target=send)
        sending.start()
        try:
            while chunk := connection.recv(1 << 20):
                answer += chunk
        except ConnectionResetError:
            pass
        sending.join()
    open(path + ".answer", "wb").write(answer)
    print("done", flush=True)
"""


@dataclass
class Answer:
    """A response. ``status`` is 0 if no response came."""

    status: int
    head: bytes
    body: bytes


class RawClient:
    """Sends requests one after another, each on a connection of its own."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    def prepare(self, request: bytes) -> None:
        """Write ``request`` to the client's file. It must have ``Connection: close``."""
        (self._folder / "request").write_bytes(request)

    async def send(self, port: int) -> Answer:
        """Send the prepared request, and return the answer."""
        path = self._folder / "request"
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{port} {path}\n".encode())
        assert await self._process.stdout.readline() == b"done\n"
        head, _, body = path.with_name("request.answer").read_bytes().partition(b"\r\n\r\n")
        return Answer(int(head.split()[1]) if head else 0, head, body)


@asynccontextmanager
async def raw_client(folder: Path) -> AsyncIterator[RawClient]:
    """Run a client until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _SCRIPT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    try:
        yield RawClient(process, folder)
    finally:
        process.stdin.close()
        await process.wait()
