"""The retention of a log, from its settings."""

from __future__ import annotations

from transport.contract import Topic
from transport.log_name import LogName
from transport.settings import TransportSettings

__all__ = ["seconds_kept"]


def seconds_kept(name: str, topic: Topic, settings: TransportSettings) -> float | None:
    """Return how many seconds a record stays in a log after workers are done with it.

    Args:
        name: the log's name.
        topic: messages or dead letters.
        settings: the settings of the process, which have those of the log.

    Returns:
        Seconds; infinity if nothing removes the record, ``None`` if the settings don't tell.
    """
    log = LogName.parse(name)
    of_log = settings.of(log)
    if log.kind == "redis":
        return float(of_log.stream_retention_seconds)
    if log.kind == "kafka":
        kept = of_log.kafka_retention_ms if topic is Topic.MESSAGES else -1
        return kept / 1000 if kept >= 0 else float("inf")
    return None
