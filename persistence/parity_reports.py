"""Reports of comparisons, as rows: for gates, the console and other processes.

``migration_guide.parity`` compares; here its results are written and read. Counts are by the names
of ``migration_guide.parity.result.ParityResult``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.timestamps import rfc3339

__all__ = ["ParityReport", "ParityTotals", "latest", "recent", "totals", "write"]

_WRITE = """
INSERT INTO parity_reports AS old (id, kind, primary_log, shadow_log, since, until, counts, lag,
    samples, verdict, compared, coverage, made_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, counts = excluded.counts,
    lag = excluded.lag, samples = excluded.samples, verdict = excluded.verdict,
    compared = excluded.compared, coverage = excluded.coverage
"""

_COLUMNS = """
SELECT id, kind, primary_log, shadow_log, since, until, counts, lag, samples, verdict, compared,
    coverage, made_by, made_at FROM parity_reports
"""

_YOUNG = "not_yet_comparable"


class ParityReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One row; see ``persistence.tables.parity.ParityReportRow``. Times are RFC 3339."""

    id: str
    kind: str
    primary: str
    shadow: str
    since: str | None
    until: str
    counts: dict[str, int]
    lag: list[int]
    samples: list[dict[str, Any]]
    verdict: str
    compared: int
    coverage: float | None
    made_by: str
    made_at: str | None = None


class ParityTotals(msgspec.Struct, frozen=True, rename="camel"):
    """The sum of running reports. ``seconds``: how much of the requested time they cover.

    ``lag`` is that of the latest report, summed over the partitions.
    """

    since: str
    until: str
    seconds: float
    counts: dict[str, int]
    lag: int
    samples: list[dict[str, Any]]


async def write(connection: Connection, report: ParityReport) -> None:
    """Insert a report, or update the row of its id. Call it within ``using`` or ``translated``."""
    await connection.execute(
        _WRITE,
        report.id,
        report.kind,
        report.primary,
        report.shadow,
        _moment(report.since) if report.since else None,
        _moment(report.until),
        msgspec.json.encode(report.counts).decode(),
        msgspec.json.encode(report.lag).decode(),
        msgspec.json.encode(report.samples).decode(),
        report.verdict,
        report.compared,
        report.coverage,
        report.made_by,
    )


async def latest(
    pool: Pool, primary: str, shadow: str, *, kind: str | None = None
) -> ParityReport | None:
    """Return the newest report on two logs, ``None`` where there is none.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        row = await connection.fetchrow(
            f"{_COLUMNS} WHERE primary_log = $1 AND shadow_log = $2 AND kind = coalesce($3, kind)"
            " ORDER BY until DESC LIMIT 1",
            primary,
            shadow,
            kind,
        )
    return _report(row) if row else None


async def recent(pool: Pool, limit: int = 60) -> list[ParityReport]:
    """Return the newest reports on any logs, newest first.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(f"{_COLUMNS} ORDER BY until DESC LIMIT $1", limit)
    return [_report(row) for row in rows]


async def totals(pool: Pool, primary: str, shadow: str, since: datetime) -> ParityTotals | None:
    """Return the running comparison's counts since ``since``; ``None`` if it did not run.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        rows = await connection.fetch(
            f"{_COLUMNS} WHERE primary_log = $1 AND shadow_log = $2 AND kind = 'running'"
            " AND until >= $3 ORDER BY until",
            primary,
            shadow,
            since,
        )
    reports = [_report(row) for row in rows]
    if not reports:
        return None
    counts: Counter[str] = Counter()
    for report in reports:
        # Which records are young changes with each report: only the last row's count is true.
        counts[_YOUNG] = 0
        counts.update(report.counts)
    first = max(since, _moment(reports[0].since or reports[0].until))
    return ParityTotals(
        rfc3339(first),
        reports[-1].until,
        _covered(reports, since),
        dict(counts),
        sum(reports[-1].lag),
        [sample for report in reports for sample in report.samples][-100:],
    )


def _covered(reports: Sequence[ParityReport], since: datetime) -> float:
    total, reached = 0.0, since
    for report in reports:
        start = max(reached, _moment(report.since or report.until))
        end = _moment(report.until)
        total += max(0.0, (end - start).total_seconds())
        reached = max(reached, end)
    return total


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _report(row: asyncpg.Record) -> ParityReport:
    return ParityReport(
        id=str(row["id"]),
        kind=row["kind"],
        primary=row["primary_log"],
        shadow=row["shadow_log"],
        since=rfc3339(row["since"]) if row["since"] else None,
        until=rfc3339(row["until"]),
        counts=msgspec.json.decode(row["counts"]),
        lag=msgspec.json.decode(row["lag"]),
        samples=msgspec.json.decode(row["samples"]),
        verdict=row["verdict"],
        compared=row["compared"],
        coverage=row["coverage"],
        made_by=row["made_by"],
        made_at=rfc3339(row["made_at"]),
    )
