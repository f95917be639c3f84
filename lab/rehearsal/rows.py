"""The delays of rows: from when a message was due until its row was committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from lab.harness.final import FinalRow
from lab.harness.history import ClientAttempt, ClientHistory, RequestKind
from lab.rehearsal.quantiles import quantile

__all__ = ["RowDelay", "RowDelays", "row_delays", "summed_up"]


class RowDelay(NamedTuple):
    """One row: when its message was first sent, and its delay, in seconds."""

    sent: float
    took: float


class RowDelays(msgspec.Struct, kw_only=True, rename="camel"):
    """The delays of the rows of acknowledged messages, from when each was due."""

    rows: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def row_delays(history: ClientHistory, rows: Iterable[FinalRow], lead: float) -> list[RowDelay]:
    """Return the delay of each message's row, sorted by when the message was first sent.

    Messages that were never acknowledged are left out, and rows without a commit time.

    Args:
        history: Has the times at which messages were due, by the monotonic clock.
        rows: Have the commit times, by PostgreSQL's clock.
        lead: PostgreSQL's clock minus the monotonic clock, in seconds.
    """
    acknowledged = {attempt.key for attempt in history.acknowledged()}
    first: dict[str, ClientAttempt] = {}
    for attempt in history.attempts:
        if attempt.kind is RequestKind.MESSAGE:
            first.setdefault(attempt.key, attempt)
    delays = [
        RowDelay(sent.sent, row.committed_at - lead - (sent.sent if sent.due is None else sent.due))
        for row in rows
        if row.committed_at is not None
        and row.key in acknowledged
        and (sent := first.get(row.key)) is not None
    ]
    return sorted(delays)


def summed_up(delays: Sequence[RowDelay]) -> RowDelays:
    """Return the count and the quantiles of these delays."""
    took = sorted(delay.took * 1000 for delay in delays)
    return RowDelays(
        rows=len(took),
        p50_ms=quantile(took, 0.5),
        p99_ms=quantile(took, 0.99),
        max_ms=quantile(took, 1.0),
    )
