"""The followers in ``crossfade status``: their partitions, and the reasons why they wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from persistence.database.pool import Pool
from persistence.errors import PersistenceError
from persistence.fleet.processes import processes

__all__ = ["ask", "lines"]

_WITHIN = 5.0


async def ask(pool: Pool) -> dict[str, dict[str, Any]]:
    """Return each live process's report on its followers, by process and by log.

    The result is empty without followers, and while PostgreSQL, which has the reports, does not
    answer.
    """
    try:
        alive = await processes(pool, within=_WITHIN)
    except (PersistenceError, TimeoutError):
        return {}
    return {
        process.member: process.followers for process in alive if process.live and process.followers
    }


def lines(followers: dict[str, dict[str, Any]]) -> list[str]:
    """Return the reports for a terminal; leave out facts that an older process lacks."""
    return [
        line
        for member, logs in followers.items()
        for log, status in logs.items()
        if isinstance(status, dict)
        for line in _lines(member, log, status)
    ]


def _lines(member: str, log: str, status: dict[str, Any]) -> Iterator[str]:
    head = f"follower of {log}: {member} keeps {len(status.get('epochs') or ())} partitions"
    if paused := status.get("paused"):
        first = paused[0]
        yield f"{head}; waits for {first['dependency']} since {first['since']}: {first['error']}"
        return
    yield head
    for wait in status.get("waiting") or ():
        yield (
            f"  partition {wait['partition']} waits at {wait['offset']} since {wait['since']}: "
            f"{wait['reason']}"
        )
