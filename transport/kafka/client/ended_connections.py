"""A patch of aiokafka: a connection that the broker has ended is closed when it is dropped.

aiokafka (0.14) drops a connection whose reader is at its end without closing it
(``AIOKafkaClient._get_conn``), and its ``__del__`` closes only those that are not. If the reader's
task has not yet seen the end, nobody closes the socket then, until the collector comes.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection

__all__ = ["install"]


def install() -> None:
    """Patch aiokafka in this process; called again, it changes nothing."""
    if not hasattr(AIOKafkaConnection.__del__, "__wrapped__"):
        AIOKafkaConnection.__del__ = _closing(AIOKafkaConnection.__del__)


def _closing(delete: Any) -> Any:
    @wraps(delete)
    def close(connection: AIOKafkaConnection) -> None:
        delete(connection)
        writer = getattr(connection, "_writer", None)  # none if it never connected
        loop = getattr(connection, "_loop", None)
        if writer is not None and loop is not None and not loop.is_closed():
            writer.close()

    return close
