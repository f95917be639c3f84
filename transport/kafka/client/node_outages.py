"""Log lines about nodes that can't be reached: one when it begins, one when it ends.

aiokafka logs neither the address of such a node nor the end of its outage.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import client as aiokafka_client
from aiokafka.errors import KafkaError

from transport.errors import ConfigurationError
from transport.kafka.client.errors import translate

__all__ = ["NodeOutages", "install"]

log = logging.getLogger(__name__)


class NodeOutages:
    """Logs the nodes that can't be reached, by address.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def failed(self, node: str, error: BaseException) -> None:
        """Log that a node can't be reached, unless that is known."""
        if node in self._since:
            return
        self._since[node] = self._clock()
        translated = translate(error, starting=True)
        if isinstance(translated, ConfigurationError):
            log.warning(
                "A Kafka node refuses our connections; will retry",
                extra={"node": node, "error": str(translated)},
            )
        elif isinstance(error, ssl.SSLError):
            log.warning(
                "A Kafka node can't be spoken to over TLS; will retry",
                extra={"node": node, "error": str(translated)},
            )
        else:
            log.warning(
                "A Kafka node can't be reached: see that it runs, and that this address, which the "
                "brokers announce, leads to it; will retry",
                extra={"node": node, "error": str(error) or type(error).__name__},
            )

    def connected(self, node: str) -> None:
        """Log that a node can be reached again, if it could not be."""
        since = self._since.pop(node, None)
        if since is not None:
            log.info(
                "A Kafka node can be reached again",
                extra={"node": node, "seconds": round(self._clock() - since, 1)},
            )


def watched(
    connect: Callable[..., Awaitable[Any]], outages: NodeOutages
) -> Callable[..., Awaitable[Any]]:
    """Return aiokafka's ``create_conn``, extended to tell ``outages`` how each attempt ended.

    Failures of ``KAFKA_BOOTSTRAP_SERVERS`` are left to ``Connector``, which raises an error for
    them. aiokafka passes no ``on_close`` for these addresses, only for those that brokers announce.
    """

    async def watching(host: str, port: int, *, on_close: Any = None, **options: Any) -> Any:
        node = f"{host}:{port}"
        try:
            connection = await connect(host, port, on_close=on_close, **options)
        except (KafkaError, OSError, TimeoutError) as error:
            if on_close is not None:
                outages.failed(node, error)
            raise
        outages.connected(node)
        return connection

    return watching


def install() -> None:
    """Watch the connections of every client in this process."""
    aiokafka_client.create_conn = watched(aiokafka_client.create_conn, NodeOutages())
