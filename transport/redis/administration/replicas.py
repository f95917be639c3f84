"""Whether a primary has the replicas that ``REDIS_WAIT_REPLICAS`` waits for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transport.errors import Unwritable
from transport.redis.connection.connection import Command, Reply

__all__ = ["asking_for_replicas", "lacking_replicas"]

_CONNECTED = re.compile(rb"^connected_slaves:(\d+)", re.MULTILINE)
_REPLICA = re.compile(rb"^slave\d+:.*state=(\w+).*lag=(-?\d+)", re.MULTILINE)
_SILENT = 10
"""Seconds, Redis's own ``min-replicas-max-lag``. A replica reports once a second."""


def asking_for_replicas(wanted: int) -> Sequence[Command]:
    """Return the commands whose replies ``lacking_replicas`` takes; none if none are wanted."""
    return (("INFO", "replication"), ("WAIT", wanted, 1)) if wanted else ()


def lacking_replicas(told: Sequence[Reply], wanted: int) -> Unwritable | None:
    """Return why no append can be confirmed, or ``None``.

    Where our user may not ask, it is not known, and ``None`` is returned. A server behind a proxy
    may show no replicas, though ``WAIT`` counts them. A replica that hangs is shown as silent, and
    counted by ``WAIT`` as long as nothing was written.
    """
    info, confirming = told or (None, 0)
    connected = _CONNECTED.search(info) if isinstance(info, bytes) else None
    if connected is None:
        return None
    shown = int(connected[1])
    if shown < wanted and isinstance(confirming, int) and confirming >= wanted:
        return None
    states = _REPLICA.findall(connected.string)
    there = shown - sum(state != b"online" or int(lag) > _SILENT for state, lag in states)
    if there >= wanted:
        return None
    return Unwritable(
        f"REDIS_WAIT_REPLICAS={wanted} replicas have to confirm an append, and {there} are there: "
        "bring the replicas back, or lower it"
    )
