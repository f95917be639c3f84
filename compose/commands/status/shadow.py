"""The shadow in ``crossfade status``: each process's report, and the open gaps."""

from __future__ import annotations

from typing import Any

from persistence.database.pool import Pool, using
from persistence.errors import PersistenceError
from persistence.fleet.processes import processes
from persistence.shadow_gaps import open_gaps
from transport.settings import TransportSettings
from transport.shadow.outcomes import Drop

__all__ = ["ask", "lines"]

_WITHIN = 5.0
_CAUSES = {
    Drop.QUEUE_FULL: "too many copies waited",
    Drop.BREAKER_OPEN: "too many copies waited while the shadow did not work",
    Drop.REFUSED: "the shadow refused them",
    Drop.CLOSED: "a process stopped before they were sent",
    Drop.PRIMARY_UNKNOWN: "the primary did not say whether it has them",
}


async def ask(transport: TransportSettings, pool: Pool) -> dict[str, Any] | None:
    """Return the shadow's state; ``None`` if the settings name no shadow.

    ``processes`` and ``missed`` (copies not repaired yet, by cause) are from PostgreSQL, and
    ``None`` while it does not answer.
    """
    if transport.transport_shadow is None:
        return None
    status: dict[str, Any] = {
        "name": transport.transport_shadow,
        "mode": transport.transport_shadow_mode,
        "processes": None,
        "missed": None,
    }
    try:
        alive = await processes(pool, within=_WITHIN)
        status["processes"] = {
            process.member: process.shadow
            for process in alive
            if process.live and process.shadow is not None
        }
        async with using(pool, within=_WITHIN) as connection:
            status["missed"] = await open_gaps(connection, transport.transport_shadow)
    except (PersistenceError, TimeoutError):
        pass
    return status


def lines(shadow: dict[str, Any]) -> list[str]:
    """Return the state for a terminal. Facts that an older process does not report are unknown."""
    head = f"shadow: {shadow['name']}, {shadow['mode']}"
    if shadow["processes"] is None:
        return [f"{head}; what waits and what was missed is unknown: PostgreSQL does not answer"]
    said = [
        f"  {member}: breaker {status.get('breaker')}, {status.get('waiting')} wait "
        f"({_seconds(status.get('oldest_age'))}), {status.get('dropped')} dropped"
        for member, status in shadow["processes"].items()
    ]
    missed = [
        f"  missed and not repaired: {records}, as {_CAUSES.get(kind, kind)}"
        for kind, records in shadow["missed"].items()
    ]
    if missed:
        missed.append("  'crossfade migrate backfill' appends them")
    return [head, *said, *(missed or ["  missed and not repaired: none"])]


def _seconds(value: object) -> str:
    return f"{value:.1f} s" if isinstance(value, int | float) else "unknown"
