"""For how long a log keeps a record, as far as its settings tell."""

from __future__ import annotations

from transport.contract import Topic
from transport.log_name import LogName
from transport.settings import TransportSettings

__all__ = ["seconds_kept"]


def seconds_kept(name: str, topic: Topic, settings: TransportSettings) -> float | None:
    """Return how many seconds a record stays in a log after workers are done with it.

    Args:
        name: the log's name.
        topic: its messages, or its dead letters.
        settings: of the process; the log's own are taken from them.

    Returns:
        Seconds; infinity where nothing removes it, ``None`` where the settings don't tell.
    """
    log = LogName.parse(name)
    of_log = settings.of(log)
    if log.kind == "redis":
        return float(of_log.stream_retention_seconds)
    if log.kind == "kafka":
        kept = of_log.kafka_retention_ms if topic is Topic.MESSAGES else -1
        return kept / 1000 if kept >= 0 else float("inf")
    return None
