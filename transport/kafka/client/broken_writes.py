"""A write to a connection that is closed already, told as the broken connection that it is.

uvloop raises ``RuntimeError`` for it, which aiokafka expects nowhere: it ended the task of an
append, whose partition then took nothing more until the producer was replaced, 30 s later. It
happens where a broker dies and some of its answers have not been read yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

__all__ = ["install"]


def _told(send: Callable[..., Any]) -> Callable[..., Any]:
    def sending(connection: Any, *request: Any, **options: Any) -> Any:
        try:
            return send(connection, *request, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"Connection at {connection.host}:{connection.port} broken: {error}"
            ) from error

    return sending


def install() -> None:
    """Have every connection of this process tell it so."""
    AIOKafkaConnection.send = _told(AIOKafkaConnection.send)
