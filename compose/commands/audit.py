"""``crossfade audit``: compares rows with the log; with ``--repair``, repairs the differences.

It covers the guide's third rollback scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from compose.commands.options.common import DryRun, Json, Wide, Yes
from compose.commands.options.log_name import named_log
from compose.commands.options.operator_action import caller
from compose.counting import counted
from compose.grid import Grid
from compose.output import UNKNOWN, client_settings, err, fail, out, run
from compose.settings import Settings
from compose.terminal import confirm, styled
from ingress.console.health.losses import loss_sentence, rows_sentence
from ingress.console.views import Sentence
from persistence.audit.audit import audit as look
from persistence.audit.job import run_repair
from persistence.audit.report import AuditReport, RepairReport
from persistence.database.pool import Pool, connect
from persistence.jobs.table import JobRunning, JobStopped
from transport.contract import Transport
from transport.existing import must_exist
from transport.registry import create

__all__ = ["audit"]

_SHOWN = 20
_FOUND = 1

R = TypeVar("R", AuditReport, RepairReport)


def audit(
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair the findings, in one transaction.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    transport: Annotated[
        str | None,
        typer.Option(
            callback=named_log, help="The log to compare with; CONSUME_FROM where not given."
        ),
    ] = None,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Compare the rows with the log, and look for duplicates.

    Exit status 1 if a difference is found, else 3 if records without a row are gone from the log,
    since these can't be compared, or if a server can't be reached. Without --repair, or with
    --dry-run, the command changes nothing, may run beside the service, and lists what a repair
    would change.
    """
    settings = client_settings()
    name = transport or settings.transport.consumed
    report = run(lambda: _with(settings, name, look), unreachable=UNKNOWN)
    if not repair or dry_run or report.clean:
        _show(report, as_json=as_json)
        raise typer.Exit(_status(report, is_wrong=not report.clean))
    if not as_json:
        _show(report, as_json=False)
    if not yes:
        err.print("Repairing holds up writers until it is done. Duplicates but the earliest go.")
        confirm("Repair?")
    done = run(lambda: _with(settings, name, _mend))
    _say(done, as_json=as_json)
    raise typer.Exit(_status(report, is_wrong=bool(done.disorders)))


def _status(report: AuditReport, *, is_wrong: bool) -> int:
    if is_wrong:
        return _FOUND
    return UNKNOWN if report.are_records_gone else 0


async def _mend(pool: Pool, log: Transport) -> RepairReport:
    try:
        return await run_repair(pool, log, by=caller())
    except JobRunning as error:
        fail(f"{error}; see it with: crossfade jobs list")
    except JobStopped:
        fail("the repair was cancelled before it began")


async def _with(
    settings: Settings, name: str, work: Callable[[Pool, Transport], Coroutine[Any, Any, R]]
) -> R:
    transport = create(name, settings.transport)
    if not transport.features.shared:
        raise typer.BadParameter(
            f"{name} is a log within one process, which no other can look into; "
            "name one that outlives it.",
            param_hint="--transport",
        )
    await must_exist(name, settings.transport)
    pool = await connect(settings.persistence, scans=True)
    try:
        async with transport as log:
            return await work(pool, log)
    finally:
        await pool.close()


def _show(report: AuditReport, *, as_json: bool) -> None:
    if as_json:
        out.json({"clean": report.clean, **msgspec.to_builtins(report), "loss": _loss(report)})
        return
    records = sum(checked.records for checked in report.ranges)
    held = counted(records, "settled record")
    out.print(f"{counted(report.rows, 'row')}; {held} that {report.transport} still holds")
    tone = "yellow" if report.are_records_gone else "green"
    for sentence in _losses(report):
        out.print(styled(("not among them: ", tone), sentence.text))
        out.print(styled((sentence.next or "", "dim")))
    _list("rules the schema lacks", report.missing_constraints)
    _list("keys with several rows", report.duplicates)
    _list("before the position, and neither row nor dead letter", report.unaccounted)
    _list("rows that are not what was sent", report.differing)
    _list("messages out of order", report.disorders)
    _list(
        "records with an id of their own, which are rows under it: an earlier release took them, "
        "and there is nothing to do",
        report.own_ids,
    )
    if not report.clean:
        out.print(styled(("something is wrong", "red")))
    elif report.are_records_gone:
        out.print(styled(("records are gone; the others are as they should be", "yellow")))
    else:
        out.print(styled(("nothing is wrong", "green")))


def _losses(report: AuditReport) -> Iterator[Sentence]:
    if report.loss:
        yield loss_sentence(report.loss)
    if report.rows_gone:
        yield rows_sentence(report.rows_gone)


def _loss(report: AuditReport) -> dict[str, Any] | None:
    """Return the loss for ``--json``, with the sentence that the console shows."""
    if report.loss is None:
        return None
    text = loss_sentence(report.loss).text
    return {**msgspec.to_builtins(report.loss), "gone": report.loss.gone, "text": text}


def _say(done: RepairReport, *, as_json: bool) -> None:
    if as_json:
        out.json(msgspec.to_builtins(done))
        return
    surplus = sum(len(removal.surplus) for removal in done.removed)
    out.print(f"removed {surplus} surplus rows and {done.receipts_removed} surplus receipts")
    _list("rules put back", done.constraints)
    _list("rows made from the log, last in their conversations", done.inserted)
    _list("records made dead letters", done.dead_lettered)
    _list("rows restored to what was sent", done.restored)
    _list("left as they are: messages out of order", done.disorders)


def _list(title: str, found: Sequence[msgspec.Struct | str]) -> None:
    if not found:
        return
    out.print(f"{len(found)} {title}:")
    table = Grid(show_header=not isinstance(found[0], str))
    lines = [msgspec.to_builtins(finding) for finding in found[:_SHOWN]]
    if isinstance(found[0], str):
        table.add_column()
        for line in lines:
            table.add_row(f"  {line}")
    else:
        for place, name in enumerate(lines[0]):
            table.add_column(name, drop=place)
        for line in lines:
            table.add_row(*(_cell(value) for value in line.values()))
    out.print(table)
    if len(found) > _SHOWN:
        out.print(f"  and {len(found) - _SHOWN} more; --json has them all")


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    if isinstance(value, list):
        return ", ".join(_cell(part) for part in value)
    return "-" if value is None else str(value)
