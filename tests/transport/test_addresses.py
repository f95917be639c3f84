"""A peer that hangs up between the connection and our first word."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import Any

from transport.addresses import connected_socket

_HUNG_UP = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset
_PATIENCE = 10.0


class _SlowLoop(asyncio.SelectorEventLoop):
    """A busy loop: it comes to a new connection only after the peer has left it."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__()
        self._listener = listener

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect, and see the peer hang up."""
        await super().sock_connect(sock, address)
        taken, _ = self._listener.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HUNG_UP)
        taken.close()
        poll = select.poll()
        poll.register(sock, 0)
        assert poll.poll(_PATIENCE * 1000), "the reset came"


def test_a_peer_that_hangs_up_at_once_costs_no_descriptor() -> None:
    async def connect(port: int) -> None:
        (await connected_socket("127.0.0.1", port)).close()  # its next use tells

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        asyncio.Runner(loop_factory=lambda: _SlowLoop(listener)) as runner,
    ):
        runner.run(connect(listener.getsockname()[1]))
