"""``crossfade rows``: archive the rows that are older than ROWS_RETENTION_DAYS."""

from __future__ import annotations

import asyncio

import msgspec
import typer

from compose.commands.options.common import DryRun, Json
from compose.counting import counted
from compose.output import client_settings, fail, out, run, working
from compose.process.metrics import process_metrics
from compose.settings import Settings
from persistence.database.pool import connect
from persistence.payloads.errors import PayloadError
from persistence.payloads.opening import open_archive
from persistence.retention.archive_file import ArchiveDamaged
from persistence.retention.archiver import Archiver, ArchiveReport

__all__ = ["app"]

_COUNT_SECONDS = 3600.0

app = typer.Typer(no_args_is_help=True, help="Archive old rows of messages.")


@app.callback()
def _group() -> None:
    """Make Typer keep ``archive`` as a subcommand, although it is the only one."""


@app.command()
def archive(*, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Archive old rows, and delete them.

    It moves rows older than ROWS_RETENTION_DAYS to ROWS_ARCHIVE_URL, as the service does each hour.
    A row is deleted after its file was read back; a tombstone keeps its id and its answer. The
    command may run beside the service, and may be interrupted and repeated.
    """
    settings = client_settings()
    days = settings.persistence.rows_retention_days
    if days is None:
        fail("ROWS_RETENTION_DAYS is not set: rows stay for ever")
    report = run(lambda: _archive(settings, days, dry_run=dry_run))
    if isinstance(report, int):
        if as_json:
            out.json({"dryRun": True, "rows": report, "days": days})
        else:
            rows, age = counted(report, "row"), counted(days, "day")
            out.print(f"would archive {rows} older than {age}")
        return
    if as_json:
        out.json(msgspec.to_builtins(report))
        return
    rows, files = counted(report.rows, "row"), counted(report.files, "file")
    out.print(f"archived {rows} in {files}, {counted(report.bytes, 'byte')}")


async def _archive(settings: Settings, days: int, *, dry_run: bool) -> ArchiveReport | int:
    persistence = settings.persistence
    store = open_archive(persistence.rows_archive_url, settings.payloads, process_metrics())
    assert store is not None, "the settings need it beside ROWS_RETENTION_DAYS"
    pool = await connect(persistence, scans=dry_run)
    try:
        archiver = Archiver(pool, store, days=days)
        if dry_run:
            return await archiver.table.count(days, within=_COUNT_SECONDS)
        with working("archiving"):
            report = await archiver.archive(asyncio.Event())
    except (PayloadError, ArchiveDamaged, OSError) as error:
        fail(str(error))
    finally:
        await pool.close()
    if report is None:
        fail("another process archives rows just now")
    return report
