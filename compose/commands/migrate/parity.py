"""``crossfade migrate parity``: compares the two logs, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn

from compose.commands.migrate.logs import Since, moment, other, two_logs
from compose.commands.options.common import Json, Wide
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import caller
from compose.grid import Cell, Grid
from compose.output import UNKNOWN, client_settings, err, out, run, warn, working
from compose.settings import Settings
from compose.terminal import styled
from migration_guide.meant_log import must_be_meant
from migration_guide.mirrored import mirrored_since
from migration_guide.parity.check import ParityCheck, PartitionReport, check
from migration_guide.parity.comparison import ParityLimits
from migration_guide.parity.follower import Follower
from migration_guide.parity.result import DIFFERENCES, ParityResult, Verdict
from persistence import parity_reports
from persistence.database.pool import connect, using
from persistence.errors import PersistenceError
from persistence.parity_reports import ParityReport
from transport.contract import Transport
from transport.errors import one_line

__all__ = ["parity"]

_STATUS = {Verdict.EQUAL: 0, Verdict.DIFFERS: 1, Verdict.NOTHING: UNKNOWN}
_REFRESH = 1.0
_ASK_SECONDS = 5.0
_SHOWN = 20
_COLUMNS = (
    (ParityResult.MATCHED, "matched"),
    (ParityResult.MISSING_IN_SHADOW, "not in shadow"),
    (ParityResult.MISSING_IN_PRIMARY, "not in primary"),
    (ParityResult.DIFFERENT_BYTES, "bytes differ"),
    (ParityResult.ORDER_DIFFERS, "order differs"),
    (ParityResult.ORDER_OVERLAPPED, "overlapped"),
    (ParityResult.ORDER_BACKFILLED, "backfilled"),
    (ParityResult.DUPLICATE, "duplicates"),
    (ParityResult.CONFLICT, "conflicts"),
    (ParityResult.NOT_YET_COMPARABLE, "not yet"),
    (ParityResult.TRIMMED, "trimmed"),
)


def parity(
    *,
    since: Since = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Length of time from --since on; without it, until now."),
    ] = None,
    primary: Annotated[
        str | None, typer.Option(callback=named_log, help="One log; by default TRANSPORT.")
    ] = None,
    shadow: Annotated[
        str | None, typer.Option(callback=named_log, help="The other; by default TRANSPORT_SHADOW.")
    ] = None,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds that a copy may take before it counts as missing.")
    ] = ParityLimits().settle,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, and show it, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Compare the two logs, message by message.

    The command reads the logs themselves, and may run beside the service. The coverage is the share
    of messages that could be compared. Exit status 0 if the logs are equal, 1 if they differ, 3 if
    nothing could be compared, or a server can't be reached.
    """
    settings = client_settings()
    first = primary or settings.transport.transport
    second = other(settings, first, shadow, "--shadow")
    start, end = _period(since, window)
    limits = ParityLimits(settle=settle)
    if follow:
        report = run(
            lambda: _follow(settings, (first, second), start, limits, as_json=as_json),
            unreachable=UNKNOWN,
        )
    else:
        report = run(
            lambda: _once(settings, (first, second), (start, end), limits, quiet=as_json),
            unreachable=UNKNOWN,
        )
        _print(report, as_json=as_json)
    raise typer.Exit(_STATUS[report.totals.verdict])


def _period(since: str | None, window: str | None) -> tuple[float | None, float | None]:
    start = moment(since, "--since")
    if window is None:
        return start, None
    # ``moment`` returns the time that lies an age in the past: the age is its distance from now.
    age, now = moment(window, "--window"), moment("0s", "--window")
    assert age is not None
    assert now is not None
    return (now - (now - age), None) if start is None else (start, start + (now - age))


async def _once(
    settings: Settings,
    names: tuple[str, str],
    period: tuple[float | None, float | None],
    limits: ParityLimits,
    *,
    quiet: bool,
) -> ParityCheck:
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True, disable=quiet) as bar:
        task = bar.add_task("comparing")
        read = 0

        def progress(records: int) -> None:
            nonlocal read
            read += records
            bar.update(task, description=f"comparing: {read} records read")

        mirrored = await _mirrored(settings)
        async with _meant_logs(settings, names) as (first, second):
            report = await check(
                first,
                second,
                since=period[0],
                until=period[1],
                mirrored=mirrored,
                limits=limits,
                progress=progress,
            )
    await _record(settings, report)
    return report


async def _follow(
    settings: Settings,
    names: tuple[str, str],
    since: float | None,
    limits: ParityLimits,
    *,
    as_json: bool,
) -> ParityCheck:
    """Show the comparison until Ctrl-C, then return its last report."""
    async with _meant_logs(settings, names) as (first, second):
        follower = Follower(first, second, since=since, limits=limits)
        try:
            with working("Reading both logs ..."):
                await follower.start()
                follower.mirrored(await _mirrored(settings))
                await follower.round()
            return await _live(follower, as_json=as_json)
        finally:
            follower.close()


async def _live(follower: Follower, *, as_json: bool) -> ParityCheck:
    try:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                if as_json:
                    out.json(_data(follower.report()), indent=None)
                else:
                    live.update(out.fitted(_shown(follower.report())), refresh=True)
                await asyncio.sleep(_REFRESH)
                await follower.round()
    except asyncio.CancelledError:
        return follower.report()


@asynccontextmanager
async def _meant_logs(
    settings: Settings, names: tuple[str, str]
) -> AsyncIterator[tuple[Transport, Transport]]:
    """Connect the logs, which have to be those of the processes if PostgreSQL can be asked.

    Raises:
        WrongLogError: one of them is another log.
    """
    async with two_logs(settings, *names) as logs:
        try:
            pool = await connect(settings.persistence)
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    for log in logs:
                        await must_be_meant(log, pool)
            finally:
                pool.terminate()
        except (PersistenceError, TimeoutError) as error:
            reason = one_line(error, empty=f"no answer within {_ASK_SECONDS:.0f} s")
            warn(f"whether the processes use these logs is not known: {reason}")
        yield logs


async def _mirrored(settings: Settings) -> float | None:
    """Return since when the primary is mirrored; ``None`` without PostgreSQL or a migration."""
    try:
        pool = await connect(settings.persistence)
        try:
            return await mirrored_since(pool, within=_ASK_SECONDS)
        finally:
            pool.terminate()
    except PersistenceError:
        return None


async def _record(settings: Settings, report: ParityCheck) -> None:
    """Save the report in PostgreSQL; without PostgreSQL, only warn."""
    total = report.totals
    try:
        pool = await connect(settings.persistence)
        try:
            async with using(pool, within=_ASK_SECONDS) as connection:
                await parity_reports.write(
                    connection,
                    ParityReport(
                        id=str(uuid4()),
                        kind="check",
                        primary=report.primary,
                        shadow=report.shadow,
                        since=report.since,
                        until=report.until,
                        counts={result.value: n for result, n in total.counts.items()},
                        lag=[partition.lag for partition in report.partitions],
                        samples=[msgspec.to_builtins(sample) for sample in report.samples],
                        verdict=total.verdict.value,
                        compared=total.compared,
                        coverage=total.coverage,
                        made_by=caller(),
                    ),
                )
        finally:
            pool.terminate()
    except PersistenceError as error:
        warn(f"the report is not kept: {error}")


def _print(report: ParityCheck, *, as_json: bool) -> None:
    if as_json:
        out.json(_data(report))
    else:
        out.print(_shown(report))


def _data(report: ParityCheck) -> dict[str, Any]:
    total = report.totals
    return {
        "verdict": total.verdict.value,
        "compared": total.compared,
        "coverage": total.coverage,
        "parity": total.parity,
        "counts": {result.value: total.of(result) for result, _ in _COLUMNS},
        **msgspec.to_builtins(report),
    }


def _shown(report: ParityCheck) -> RenderableType:
    return Group(_partitions(report), *_samples(report), "", _sentence(report))


def _partitions(report: ParityCheck) -> Grid:
    table = Grid()
    table.title = f"{report.primary} (primary) and {report.shadow} (shadow)"
    table.title += f" since {report.since}" if report.since else ", all that both logs have"
    table.add_column("partition", right=True)
    total = report.totals
    shown = [
        (r, name)
        for r, name in _COLUMNS
        if r in (ParityResult.MATCHED, *DIFFERENCES) or total.of(r)
    ]
    for _, name in shown:
        table.add_column(name, right=True)
    table.add_column("coverage", right=True, drop=1)
    for partition in report.partitions:
        if any(partition.totals.counts.values()):
            table.add_row(
                str(partition.partition),
                *_cells(partition, shown),
                _percent(partition.totals.coverage),
            )
    sums = PartitionReport(-1, total, 0, 0)
    table.add_row("all", *_cells(sums, shown), _percent(total.coverage))
    return table


def _cells(partition: PartitionReport, shown: Sequence[tuple[ParityResult, str]]) -> list[Cell]:
    cells: list[Cell] = []
    for result, _ in shown:
        count = partition.totals.of(result)
        cells.append(
            styled((str(count), "bold red")) if count and result in DIFFERENCES else str(count)
        )
    return cells


def _samples(report: ParityCheck) -> list[RenderableType]:
    wanted = [s for s in report.samples if s.result in DIFFERENCES]
    wanted += [
        s for s in report.samples if s.result in (ParityResult.DUPLICATE, ParityResult.CONFLICT)
    ]
    if not wanted:
        return []
    table = Grid()
    table.add_column("what")
    table.add_column("partition", right=True, drop=2)
    table.add_column("message")
    table.add_column(report.primary, drop=3)
    table.add_column(report.shadow, drop=4)
    table.add_column("trace", drop=5)
    table.add_column("detail", prose=True, drop=1)
    for sample in wanted[:_SHOWN]:
        table.add_row(
            sample.result.value,
            str(sample.partition),
            sample.message_id,
            sample.primary_offset or "-",
            sample.shadow_offset or "-",
            sample.trace_id or "-",
            sample.detail,
        )
    rest = len(wanted) - _SHOWN
    return ["", table, *([f"and {rest} more samples; --json has them"] if rest > 0 else [])]


def _sentence(report: ParityCheck) -> RenderableType:
    total = report.totals
    verdict = total.verdict
    if verdict is Verdict.NOTHING:
        return styled(("nothing to compare", "yellow"), ": that is not parity")
    counted = f"{total.compared} compared, coverage {_percent(total.coverage)}"
    if verdict is Verdict.EQUAL:
        return styled(("equal", "green"), f": {counted}")
    share = "-" if total.parity is None else f"{total.parity:.4%}"
    return styled(
        ("they differ", "red"),
        f": {counted}, {share} matched"
        f"; the latest message concerned came at {report.last_difference}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
