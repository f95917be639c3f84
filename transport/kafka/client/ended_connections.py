"""A patch of aiokafka: a connection that the broker ends is closed here at once.

asyncio keeps a connection open for writing when the peer ends its side, unless the protocol says
otherwise. Kafka has no use for that. aiokafka (0.14) closes such a connection when its reader's
task sees the end. If the connection is to be used before (``AIOKafkaClient._get_conn``), aiokafka
drops it unclosed, and the socket stayed open until the garbage collector came.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaProtocol

__all__ = ["install"]


def install() -> None:
    """Patch aiokafka in this process; called again, it changes nothing."""
    if "eof_received" not in vars(AIOKafkaProtocol):
        AIOKafkaProtocol.eof_received = _closing(AIOKafkaProtocol.eof_received)


def _closing(eof_received: Any) -> Any:
    @wraps(eof_received)
    def close(protocol: AIOKafkaProtocol) -> bool:
        eof_received(protocol)
        return False  # the transport closes itself

    return close
