"""How spans name each log, from its settings."""

from __future__ import annotations

from otel.tracing.span import Endpoint
from transport.settings import TransportSettings

__all__ = ["Endpoints", "endpoint"]


def endpoint(transport: str, settings: TransportSettings) -> Endpoint:
    """Return the names of a log; of one registered by a third party, its own and nothing more."""
    if transport == "redis":
        # Without the partition, which is an attribute: a span's name must not multiply.
        return Endpoint("redis", "msg:stream", "msg:dlq", settings.redis_host, settings.redis_port)
    if transport == "kafka":
        topic, letters = settings.kafka_topic, settings.kafka_dlq_topic
        first = settings.kafka_bootstrap_servers.split(",")[0].strip()
        host, _, port = first.rpartition(":")
        if host and port.isdigit():
            return Endpoint("kafka", topic, letters, host, int(port))
        return Endpoint("kafka", topic, letters, first)
    return Endpoint(transport, "messages", "dead_letters", transport)


class Endpoints(dict[str, Endpoint]):
    """The names of each log by its transport's name; also of one that the settings don't mention.

    (A log that was used before is drained although nothing names it any more.)
    """

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__()
        self._settings = settings

    def __missing__(self, transport: str) -> Endpoint:
        made = self[transport] = endpoint(transport, self._settings)
        return made
