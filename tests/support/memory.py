"""A log in memory whose broker gives up on a process."""

from __future__ import annotations

from transport.contract import Consumer
from transport.memory import MemoryLog

__all__ = ["expel"]


def expel(log: MemoryLog, consumer: Consumer) -> None:
    """Take a consumer's partitions, as from a process that is not heard of for too long."""
    for standing in log.groups():
        group = log.group(standing.topic, standing.group)
        for name, member in list(group.members.items()):
            if member is consumer:
                group.expel(name)
