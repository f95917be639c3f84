"""``crossfade erase``: erases a sender's messages or a conversation, except from the logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import typer

from compose.commands.every_log import every_log
from compose.commands.options.common import DryRun, Json, Yes
from compose.commands.options.operator_action import caller, said
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run, warn, working
from compose.process.metrics import process_metrics
from compose.settings import Settings
from compose.terminal import confirm
from persistence.database.pool import Pool, connect
from persistence.fleet.payload_identity import confirm_every
from persistence.jobs.table import JobRunning, JobStopped
from persistence.operator_actions import Actions
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.opening import open_archive, open_store
from persistence.retention.erasure import Erasure, ErasurePreview, ErasureReport, RemainingRecords
from persistence.retention.subject import Subject
from persistence.tables.states import JobState
from transport.clock import timestamp
from transport.contract import Topic
from transport.retention import seconds_kept

__all__ = ["erase"]

_COUNT_SECONDS = 3600.0


def erase(
    *,
    sender: Annotated[
        str | None, typer.Option(metavar="ID", help="Everything that this sender sent.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Everything in this conversation.")
    ] = None,
    why: Annotated[
        str, typer.Option(help="The reason, for the record. Name no person in it.")
    ] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase what a sender sent, or a conversation.

    It deletes rows, receipts, dead letters and payloads. A tombstone keeps each message's id and
    time of acceptance, so that its key never becomes a row again. Logs keep their records until
    their retention ends: the command prints which logs, and until when. Ctrl-C stops it; the same
    command continues it.
    """
    if (sender is None) == (conversation is None):
        raise typer.BadParameter("name one: --sender ID or --conversation ID")
    if not (sender or conversation):
        raise typer.BadParameter("the id is empty: no message has an empty id")
    subject = Subject("sender", sender) if sender else Subject("conversation", conversation or "")
    settings = client_settings()
    if dry_run:
        preview = run(lambda: _preview(settings, subject))
        _show_preview(preview, settings, as_json=as_json)
        return
    reason = said(why)
    if not yes:
        confirm(f"Erase everything of the {subject.kind} {subject.value!r} for good?")
    report = run(lambda: _erase(settings, subject, reason))
    _show(report, settings, as_json=as_json)
    if report.state != JobState.DONE:
        fail(f"stopped: the same command goes on with it (job {report.job})")
    if report.unlisted:
        warn(
            f"not looked into: {counted(report.unlisted, 'file')} in ROWS_ARCHIVE_URL that "
            "row_archives does not list. If PostgreSQL was restored to a moment before they were "
            "written, their messages are rows or in other files by now: compare, and delete these "
            "files"
        )
    if report.unread:
        fail(
            f"not looked into: {counted(report.unread, 'file')} of the archive that "
            "ROWS_ARCHIVE_URL does not have or does not give. Is it the service's? A bucket may "
            "give older files only on request. If they were deleted, there is nothing to erase in "
            "them"
        )


async def _preview(settings: Settings, subject: Subject) -> ErasurePreview:
    async with _erasure(settings, subject) as (_, erasure):
        return await erasure.preview(within=_COUNT_SECONDS)


async def _erase(settings: Settings, subject: Subject, why: str) -> ErasureReport:
    async with _erasure(settings, subject) as (pool, erasure):
        actions = Actions(pool)
        by = caller()
        async with actions.recorded("erase", who=by, target=subject.label, why=why) as entry:
            with working("erasing"):
                report = await erasure.run(by=by)
            entry.result = f"{_erased(report)}; job {report.job} {report.state}"
            return report


@asynccontextmanager
async def _erasure(settings: Settings, subject: Subject) -> AsyncIterator[tuple[Pool, Erasure]]:
    metrics = process_metrics()
    store = open_store(settings.payloads, metrics)
    archive = open_archive(settings.persistence.rows_archive_url, settings.payloads, metrics)
    pool = await connect(settings.persistence, scans=True)
    try:
        if store is not None:
            await confirm_every(pool, store)
        async with every_log(settings, pool) as logs:
            yield pool, Erasure(pool, subject, logs, store, archive)
    except JobRunning as error:
        fail(f"{error}; see it with: crossfade jobs list")
    except JobStopped:
        fail("it was cancelled; what was erased by then is gone")
    except PayloadOutage as error:
        fail(str(error))
    finally:
        await pool.close()


def _show_preview(preview: ErasurePreview, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        remains = _told(preview.remains, settings)
        out.json(
            {"dryRun": True, "rows": preview.rows, "letters": preview.letters, "logs": remains}
        )
        return
    rows, letters = counted(preview.rows, "row"), counted(preview.letters, "dead letter")
    out.print(f"would erase {rows} and {letters}")
    _show_remains(preview.remains, settings)


def _show(report: ErasureReport, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        counts = msgspec.to_builtins(report)
        counts.pop("remains")
        out.json({**counts, "logs": _told(report.remains, settings)})
        return
    out.print(f"erased {_erased(report)}")
    _show_remains(report.remains, settings)


def _erased(report: ErasureReport) -> str:
    counts = (
        counted(report.rows, "row"),
        counted(report.receipts, "receipt"),
        counted(report.letters, "dead letter"),
        counted(report.payloads, "payload"),
    )
    return f"{', '.join(counts)}, and {counted(report.archived, 'archived message')}"


def _show_remains(remains: Sequence[RemainingRecords], settings: Settings) -> None:
    if not remains:
        out.print("no log has records of it")
        return
    table = Grid("log")
    for heading in ("of", "records", "until about"):
        table.add_column(heading, right=heading == "records")
    for line in _told(remains, settings):
        table.add_row(line["log"], line["of"], f"{line['records']:,}", line["until"])
    out.print("what the logs still have, and until when:")
    out.print(table)
    err.print("Backups, and a server's own files, keep what they have until they are replaced.")


def _told(remains: Sequence[RemainingRecords], settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "log": kept.log,
            "of": kept.topic.replace("_", " "),
            "records": kept.records,
            "until": _until(kept, settings),
        }
        for kept in remains
    ]


def _until(kept: RemainingRecords, settings: Settings) -> str:
    seconds = seconds_kept(kept.log, Topic(kept.topic), settings.transport)
    if seconds is None:
        return "not known: ask whoever runs that log"
    if seconds == float("inf"):
        return "the log is removed, or its retention is set"
    return timestamp(kept.latest + seconds)
