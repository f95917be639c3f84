"""A TCP proxy that injects faults of networks: it loses, delays, holds back and cuts data.

::

    async with FaultProxy(server.host, server.port) as proxy:
        transport = ...  # connected to proxy.host, proxy.port
        proxy.lose_reply_to(b"XADD")  # the server gets it; the client is cut off, with no reply
        proxy.hold(b"XREADGROUP")  # the server gets it when released, even if the client has gone
        proxy.black_hole()  # nothing passes, nothing is refused
        proxy.cut_off("127.0.0.2")  # the same, for clients at this address alone
        proxy.reset()  # every connection is cut now
        proxy.replace(b"abc", b"abx")  # in replies; of one length
        proxy.lead_to(host, port)  # new connections go there, those that there are stay
        proxy.heal()  # everything passes again
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

__all__ = ["FaultProxy"]

_CHUNK = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds


class FaultProxy:
    """Forwards 127.0.0.1:``port`` to a server, and injects faults on demand."""

    host = "127.0.0.1"

    def __init__(self, server_host: str, server_port: int) -> None:
        self.port = 0
        self.lost_replies = 0
        """Number of replies lost on demand."""
        self.connections = 0
        """Number of connections that clients have made."""
        self._server_address = (server_host, server_port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._open = asyncio.Event()  # not set: a black hole
        self._open.set()
        self._cut_off = ""
        self._joined = asyncio.Event()  # not set: clients at that address are cut off
        self._joined.set()
        self._refusing = False
        self._losing: list[bytes] = []
        self._replaced: tuple[bytes, bytes] | None = None
        self._holding: bytes | None = None
        self._released = asyncio.Event()
        self.held = asyncio.Event()
        """Set once data is held back."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def heal(self) -> None:
        """End all faults; forward held data."""
        self._delay = 0.0
        self._refusing = False
        self._losing.clear()
        self._replaced = None
        self._open.set()
        self._joined.set()
        self.release()

    def lose_reply_to(self, marker: bytes, *, times: int = 1) -> None:
        """Pass on the next command with ``marker`` in it, and cut the client off before a reply."""
        self._losing += [marker] * times

    def hold(self, marker: bytes) -> None:
        """Hold back the next command with ``marker`` in it, and what follows it, until released."""
        self._holding = marker
        self._released.clear()
        self.held.clear()

    def release(self) -> None:
        """Forward the held bytes. The server gets them even if its client is gone."""
        self._holding = None
        self._released.set()

    def replace(self, old: bytes, new: bytes) -> None:
        """Damage replies: replace ``old`` by ``new``, which has the same length."""
        assert len(old) == len(new)
        self._replaced = old, new

    def delay(self, seconds: float) -> None:
        """Let every reply take this much longer."""
        self._delay = seconds

    def black_hole(self) -> None:
        """Let nothing pass in either direction; connections are accepted all the same."""
        self._open.clear()

    def cut_off(self, host: str) -> None:
        """Let nothing pass from and to clients whose address is ``host``, as ``black_hole`` does.

        A server has that address if it is its ``bind-source-addr``.
        """
        self._cut_off = host
        self._joined.clear()

    def refuse(self) -> None:
        """Cut every new connection at once."""
        self._refusing = True

    def lead_to(self, host: str, port: int) -> None:
        """Connect new clients to another server; old connections stay, as in many failovers."""
        self._server_address = (host, port)

    def reset(self) -> None:
        """Cut every connection now, with a TCP reset."""
        for link in list(self._links):
            link.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._refusing:
                await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server_address)
        link = _Link(writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._upstream(reader, server_writer, link))
                tasks.create_task(self._downstream(server_reader, writer, link))
        except* OSError:
            pass  # one side closed its connection, which is expected
        finally:
            self._links.discard(link)
            server_writer.close()

    async def _passes(self, link: _Link) -> None:
        await self._open.wait()
        if link.host == self._cut_off:
            await self._joined.wait()

    async def _upstream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._passes(link)
            if self._holding and self._holding in data:
                self._holding = None
                self.held.set()
                await self._released.wait()
            for marker in self._losing:
                if marker in data:
                    self._losing.remove(marker)
                    link.losing = True
                    break
            writer.write(data)
            await writer.drain()
        # The client has gone. The server must learn that only after it has read the sent data.
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _downstream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._passes(link)
            if link.losing:
                self.lost_replies += 1
                link.reset()
                return
            if self._replaced:
                data = data.replace(*self._replaced)
            if self._delay:
                await asyncio.sleep(self._delay)
            with contextlib.suppress(OSError):  # a client that has gone gets nothing
                writer.write(data)
                await writer.drain()
        # The server sends no more, and may still read: one that refuses a body reads on while the
        # client sends it. To close here would reset the connection, and the client lose the answer.
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Link:
    """One client's connection."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.losing = False
        self.host: str = client.get_extra_info("peername")[0]
        self._client = client

    def reset(self) -> None:
        sock = self._client.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._client.transport.abort()
