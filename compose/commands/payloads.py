"""``crossfade payloads``: the payload store against rows and logs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from compose.commands.every_log import originals
from compose.commands.options import DryRun, Json, Wide, Yes
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run, warn
from compose.process.metrics import process_metrics
from compose.settings import Settings
from compose.terminal import confirm, progress_bar, styled
from persistence.database.pool import Pool, connect
from persistence.fleet.payload_identity import confirm as confirm_store
from persistence.payload_audit.sweep import LEAST_AGE, SweepReport
from persistence.payload_audit.sweep import sweep as remove_orphans
from persistence.payload_audit.verify import VerifyReport
from persistence.payload_audit.verify import verify as compare
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.opening import open_store
from persistence.payloads.store import PayloadStore

__all__ = ["app"]

_FOUND, _UNKNOWN = 1, 3
_UNITS = {"m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(
    no_args_is_help=True, help="The payload store: delete what nothing refers to, and verify it."
)


@app.command()
def sweep(
    *,
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="Only objects older than this: 1h (the least), 36h, 7d."),
    ] = "1h",
    dry_run: DryRun = False,
    allow_many: Annotated[
        bool,
        typer.Option(
            "--allow-many", help="Go on where more than a tenth of the objects (and 100) would go."
        ),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete from the payload store what nothing refers to.

    An object stays if a row, a dead letter or any record of any log needs it, or if it is younger
    than an hour before the oldest unread record. Others are set aside under doomed/ in the store,
    and the next sweep, an hour later or more, deletes them or puts back what is needed after all.
    Uploads that did not end go after a day. It may run beside the service, and be ended and begun
    again.
    """
    age = _age(older_than)
    if not dry_run and not yes:
        confirm("Delete what nothing refers to?")

    async def main() -> SweepReport:
        async with _store() as (settings, pool, store), originals(settings, pool) as logs:
            with progress_bar(err) as bar:
                task = bar.add_task("looking at objects", total=None)
                return await remove_orphans(
                    pool,
                    store,
                    logs,
                    older_than=age,
                    dry_run=dry_run,
                    allow_many=allow_many,
                    noted=lambda report: bar.update(task, completed=report.examined),
                )

    report = run(main)
    if report.put_back and not dry_run:
        warn(
            f"{report.put_back:,} objects that were set aside are needed after all, and are back "
            "under their keys: redrive dead letters with the reason payload_missing"
        )
    if as_json:
        out.json({"dryRun": dry_run, **msgspec.to_builtins(report)})
        return
    table = Grid(show_header=False)
    table.add_column()
    table.add_column(right=True)
    for name, number in (
        ("objects", report.examined),
        ("a row, a dead letter or a record needs", report.referenced),
        ("too young to tell", report.young),
        ("not Crossfade's", report.foreign),
        ("would be set aside" if dry_run else "set aside", report.set_aside),
        ("uploads that did not end", report.uploads),
        ("bytes of both", report.bytes),
        ("set aside earlier, and deleted now", report.deleted),
        ("set aside earlier, and put back", report.put_back),
    ):
        table.add_row(name, f"{number:,}")
    out.print(table)


@app.command()
def verify(
    *,
    sample: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only so many rows, drawn at random."),
    ] = None,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Read the payload of every row, and compare length and SHA-256.

    Exit status 1 if one is missing or damaged; each is listed. Exit status 3 if the payload store
    can't be reached or refuses: then nothing is known of the rest.
    """

    async def main() -> VerifyReport:
        async with _store() as (_, pool, store):
            with progress_bar(err) as bar:
                task = bar.add_task("reading payloads", total=sample)
                return await compare(
                    pool,
                    store,
                    sample=sample,
                    noted=lambda report: bar.update(task, completed=report.examined),
                )

    report = run(main)
    if as_json:
        out.json(msgspec.to_builtins(report))
    else:
        _show(report)
    raise typer.Exit(_FOUND if report.faults else 0)


def _show(report: VerifyReport) -> None:
    if report.faults:
        table = Grid("message")
        for heading in ("fault", "object", "detail"):
            table.add_column(heading, prose=heading == "detail")
        for fault in report.faults:
            table.add_row(fault.message_id, fault.fault, fault.key, fault.detail)
        out.print(table)
    payloads = "1 payload" if report.examined == 1 else f"{report.examined:,} payloads"
    good = f"{payloads}, {report.bytes:,} bytes: as sent"
    bad = f"{len(report.faults):,} of {payloads} missing or damaged"
    out.print(styled((bad, "red") if report.faults else (good, "green")))


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    age = timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else timedelta()
    if age < LEAST_AGE:
        raise typer.BadParameter(
            f"{text!r} is no age of an hour or more (1h, 36h, 7d)", param_hint="--older-than"
        )
    return age


@asynccontextmanager
async def _store() -> AsyncIterator[tuple[Settings, Pool, PayloadStore]]:
    settings = client_settings()
    store = open_store(settings.payloads, process_metrics())
    if store is None:
        fail("PAYLOAD_STORE is not set: name the store that the service uses")
    pool = await connect(settings.persistence, scans=True)
    try:
        await confirm_store(pool, store)
        yield settings, pool, store
    except PayloadOutage as error:
        fail(str(error), status=_UNKNOWN)
    finally:
        await pool.close()
