"""Log lines about nodes that can't be reached: one when it begins, one when it ends.

aiokafka logs neither the address of such a node nor the end of its outage. Its errors don't say why
a node can't be reached; ``explained`` does.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiokafka import client as aiokafka_client
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

from transport.errors import ConfigurationError
from transport.kafka.client.errors import translate

__all__ = ["NodeOutages", "explained", "install"]

log = logging.getLogger(__name__)


_UNREACHED = (
    "A Kafka node can't be reached: see that it runs, and that this address, which the brokers "
    "announce, leads to it; will retry"
)
_UNSPOKEN = "A Kafka node can't be spoken to over TLS; will retry"
_REFUSING = "A Kafka node refuses our connections; will retry"


class _Outage(NamedTuple):
    since: float
    line: str
    """The line that was logged."""
    reason: str
    """Why the last attempt failed, with the remedy."""


class NodeOutages:
    """Logs the nodes that can't be reached, by address.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outages: dict[str, _Outage] = {}

    def failed(self, node: str, error: BaseException) -> None:
        """Log that a node can't be reached, unless that is known and the line would be the same.

        A node that restarts with an expired certificate is down first, and then refuses us.
        """
        known = self._outages.get(node)
        translated = translate(error, starting=True)
        told = reason = str(translated)
        if isinstance(translated, ConfigurationError):
            line = _REFUSING
        elif isinstance(error, ssl.SSLError):
            line = _UNSPOKEN
        else:
            line, told = _UNREACHED, str(error) or type(error).__name__
        self._outages[node] = _Outage(known.since if known else self._clock(), line, reason)
        if known is None or known.line != line:
            log.warning(line, extra={"node": node, "error": told})

    def connected(self, node: str) -> None:
        """Log that a node can be reached again, if it could not be."""
        past = self._outages.pop(node, None)
        if past is not None:
            log.info(
                "A Kafka node can be reached again",
                extra={"node": node, "seconds": round(self._clock() - past.since, 1)},
            )

    def reason(self, node: str) -> str | None:
        """Return why the last attempt to reach a node failed; ``None`` if it did not."""
        outage = self._outages.get(node)
        return outage.reason if outage else None


_OUTAGES = NodeOutages()  # of every client in this process


def explained(error: BaseException, client: AIOKafkaClient, node_id: int) -> str:
    """Return why a request to a node failed, with the remedy.

    aiokafka's error says only that the node is not ready where no connection could be made.
    """
    broker = client.cluster.broker_metadata(node_id)
    known = None
    if broker is not None and isinstance(error, NodeNotReadyError):
        known = _OUTAGES.reason(_address(broker.host, broker.port))
    return known or str(translate(error))


def _address(host: str, port: int) -> str:
    return f"{host}:{port}"


def watched(
    connect: Callable[..., Awaitable[Any]], outages: NodeOutages
) -> Callable[..., Awaitable[Any]]:
    """Return aiokafka's ``create_conn``, extended to tell ``outages`` how each attempt ended.

    Failures of ``KAFKA_BOOTSTRAP_SERVERS`` are left to ``Connector``, which raises an error for
    them. aiokafka passes no ``on_close`` for these addresses, only for those that brokers announce.
    """

    async def watching(host: str, port: int, *, on_close: Any = None, **options: Any) -> Any:
        node = _address(host, port)
        try:
            connection = await connect(host, port, on_close=on_close, **options)
        except Exception as error:
            if on_close is not None:
                outages.failed(node, error)
            if isinstance(error, (KafkaError, OSError, TimeoutError)):
                raise
            # For an answer that is not Kafka's aiokafka raises TypeError, for example. Its clients
            # do not expect it: the task that looks for their brokers would end by it.
            raise KafkaConnectionError(f"{node} does not answer as Kafka: {error}") from error
        outages.connected(node)
        return connection

    return watching


def install() -> None:
    """Watch the connections of every client in this process."""
    aiokafka_client.create_conn = watched(aiokafka_client.create_conn, _OUTAGES)
