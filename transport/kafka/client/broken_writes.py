"""A patch of aiokafka: a write to a closed connection raises ``KafkaConnectionError``.

uvloop raises ``RuntimeError`` for such a write, and aiokafka handles that nowhere. It ended the
task of an append, and the partition took nothing more until the producer was replaced, 30 s later.
It happens if a broker dies while some of its answers have not been read yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

__all__ = ["install"]


def _raising_connection_error(send: Callable[..., Any]) -> Callable[..., Any]:
    def sending(connection: Any, *request: Any, **options: Any) -> Any:
        try:
            return send(connection, *request, **options)
        except KafkaError:
            raise  # a RuntimeError too: the broker does not support the request, for example
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(
                f"Connection at {connection.host}:{connection.port} broken: {error}"
            ) from error

    return sending


def install() -> None:
    """Apply the patch to all connections of this process."""
    AIOKafkaConnection.send = _raising_connection_error(AIOKafkaConnection.send)
