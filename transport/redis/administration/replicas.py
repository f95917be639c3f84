"""Whether a primary has the replicas that ``REDIS_WAIT_REPLICAS`` waits for."""

from __future__ import annotations

import re

from transport.errors import Unwritable
from transport.redis.connection.connection import Command, Reply

__all__ = ["REPLICATION", "lacking_replicas"]

REPLICATION: Command = ("INFO", "replication")
_CONNECTED = re.compile(rb"^connected_slaves:(\d+)", re.MULTILINE)
_REPLICA = re.compile(rb"^slave\d+:.*state=(\w+).*lag=(-?\d+)", re.MULTILINE)
_SILENT = 10
"""Seconds, Redis's own ``min-replicas-max-lag``. A replica reports once a second."""


def lacking_replicas(info: Reply, wanted: int) -> Unwritable | None:
    """Return why no append can be confirmed, or ``None``; from the reply to ``REPLICATION``.

    Where our user may not ask, it is not known, and ``None`` is returned.
    """
    connected = _CONNECTED.search(info) if isinstance(info, bytes) else None
    if connected is None:
        return None
    told = _REPLICA.findall(info)
    absent = sum(state != b"online" or int(lag) > _SILENT for state, lag in told)
    there = int(connected[1]) - absent
    if there >= wanted:
        return None
    return Unwritable(
        f"REDIS_WAIT_REPLICAS={wanted} replicas have to confirm an append, and {there} are there: "
        "bring the replicas back, or lower it"
    )
