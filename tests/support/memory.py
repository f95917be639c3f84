"""Makes the broker of a log in memory give up on a process."""

from __future__ import annotations

from transport.contract import Consumer
from transport.memory import MemoryLog

__all__ = ["expel"]


def expel(log: MemoryLog, consumer: Consumer) -> None:
    """Revoke a consumer's partitions, as those of a process without heartbeats."""
    for standing in log.groups():
        group = log.group(standing.topic, standing.group)
        for name, member in list(group.members.items()):
            if member is consumer:
                group.expel(name)
