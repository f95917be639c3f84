"""``crossfade payloads``: sweeps, verifies and copies the payload store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from compose.commands.every_log import originals
from compose.commands.options.age import age_seconds
from compose.commands.options.common import DryRun, Json, Wide, Yes
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run, warn
from compose.process.metrics import process_metrics
from compose.settings import Settings
from compose.terminal import confirm as confirmed
from compose.terminal import progress_bar, styled
from persistence.database.pool import Pool, connect
from persistence.fleet.payload_identity import confirm, confirm_every
from persistence.payload_audit.copy import CopyReport, copy_payloads, make_ready
from persistence.payload_audit.erased import delete_erased
from persistence.payload_audit.sweep import LEAST_AGE, SweepReport
from persistence.payload_audit.sweep import sweep as remove_orphans
from persistence.payload_audit.verify import VerifyReport
from persistence.payload_audit.verify import verify as compare
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.opening import folder_at, open_at, open_store
from persistence.payloads.settings import known_store
from persistence.payloads.store import PayloadStore

__all__ = ["app"]

_FOUND, _UNKNOWN = 1, 3

app = typer.Typer(
    no_args_is_help=True,
    help="Sweep, verify and copy the store of large payloads.",
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
    """Delete objects of the payload store that nothing refers to.

    An object stays if a row, a dead letter or a record of any log refers to it, or if it is younger
    than an hour before the oldest unread record. Other objects are moved to doomed/ in the store.
    The next sweep, an hour later or more, deletes them, and puts back those that are needed after
    all. Incomplete uploads are deleted after a day. The command may run beside the service, and may
    be interrupted and repeated.
    """
    age = _age(older_than)
    if not dry_run and not yes:
        confirmed("Delete the objects that nothing refers to?")

    async def main() -> SweepReport:
        async with _store(alone=True) as (settings, pool, store), originals(settings, pool) as logs:
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
def copy(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORE",
            help="Where the objects are. Not given: PAYLOAD_FALLBACK_STORE, else PAYLOAD_STORE.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="STORE",
            help="Where they are to be. Not given: PAYLOAD_STORE, if there is a fallback.",
        ),
    ] = None,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Objects under way at once.")
    ] = 8,
    dry_run: DryRun = False,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Copy every object of one payload store into another.

    A store is named as in PAYLOAD_STORE: file:///folder, s3://bucket/prefix. Each object is
    compared with the SHA-256 in its key, and read back. Objects that the target already has are
    skipped, so the command may be interrupted and repeated. It deletes only the content of erased
    messages in the target. It prepares a new target for use as PAYLOAD_FALLBACK_STORE or
    PAYLOAD_STORE. docs/payloads.md describes the whole move from one store to another under
    traffic.

    Exit status 1 if an object is damaged or can't be read; each is listed. Exit status 3 if a store
    can't be reached or refuses a request: the same command continues.
    """

    async def main() -> tuple[str, str, CopyReport]:
        async with _stores(source, target) as (pool, old, new):
            assert old.identity is not None
            await make_ready(new, old.identity, dry_run=dry_run)
            with progress_bar(err) as bar:
                task = bar.add_task("copying objects", total=None)
                report = await copy_payloads(
                    old,
                    new,
                    dry_run=dry_run,
                    at_once=at_once,
                    noted=lambda report: bar.update(task, completed=report.examined),
                )
            if not dry_run:
                report.erased = await delete_erased(pool, new)
            return str(old.settings.payload_store), str(new.settings.payload_store), report

    old, new, report = run(main)
    if as_json:
        out.json({"from": old, "to": new, "dryRun": dry_run, **msgspec.to_builtins(report)})
    else:
        _show_copy(old, new, report, dry_run=dry_run)
    raise typer.Exit(_FOUND if report.faults else 0)


def _show_copy(old: str, new: str, report: CopyReport, *, dry_run: bool) -> None:
    if report.faults:
        table = Grid("object")
        for heading in ("damaged in", "detail"):
            table.add_column(heading, prose=heading == "detail")
        for fault in report.faults:
            table.add_row(fault.key, fault.where, fault.detail)
        out.print(table)
    table = Grid(show_header=False)
    table.add_column()
    table.add_column(right=True)
    for name, text in (
        (f"objects in {old}", f"{report.examined:,}"),
        (f"in {new} already", f"{report.there:,}"),
        ("would be copied" if dry_run else "copied, and read back", f"{report.copied:,}"),
        ("bytes", f"{report.bytes:,}"),
        ("damaged or unreadable, not copied", f"{len(report.faults):,}"),
        ("swept or erased meanwhile", f"{report.gone:,}"),
        (f"of erased messages, deleted in {new}", f"{report.erased:,}"),
        ("uploads that have not ended, not copied", f"{report.uploads:,}"),
        ("not Crossfade's, not copied", f"{report.foreign:,}"),
        (f"{old} was written last", report.newest or "never"),
    ):
        table.add_row(name, text)
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

    Exit status 1 if a payload is missing or damaged; each is listed. Exit status 3 if the payload
    store can't be reached or refuses a request: the remaining payloads were not checked.
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
    payloads = counted(report.examined, "payload")
    good = f"{payloads}, {counted(report.bytes, 'byte')}: as sent"
    bad = f"{len(report.faults):,} of {payloads} missing or damaged"
    out.print(styled((bad, "red") if report.faults else (good, "green")))


def _age(text: str) -> timedelta:
    age = timedelta(seconds=age_seconds(text) or 0)
    if age < LEAST_AGE:
        raise typer.BadParameter(
            f"{text!r} is no age of an hour or more (1h, 36h, 7d)", param_hint="--older-than"
        )
    return age


@asynccontextmanager
async def _store(*, alone: bool = False) -> AsyncIterator[tuple[Settings, Pool, PayloadStore]]:
    """Open the payload store, with its fallback store unless ``alone``."""
    settings = client_settings()
    payloads, metrics = settings.payloads, process_metrics()
    if payloads.payload_store is None:
        fail("PAYLOAD_STORE is not set: name the store that the service uses")
    store = open_at(payloads.payload_store, payloads, metrics)
    if not alone and payloads.payload_fallback_store is not None:
        store = open_store(payloads, metrics) or store
    pool = await connect(settings.persistence, scans=True)
    try:
        await confirm_every(pool, store)
        yield settings, pool, store
    except PayloadOutage as error:
        fail(str(error), status=_UNKNOWN)
    finally:
        await pool.close()


@asynccontextmanager
async def _stores(
    source: str | None, target: str | None
) -> AsyncIterator[tuple[Pool, PayloadStore, PayloadStore]]:
    """Open both stores. The source must be the store of this database."""
    settings = client_settings()
    payloads, metrics = settings.payloads, process_metrics()
    fallback = payloads.payload_fallback_store
    source = _address("--from", source or fallback or payloads.payload_store)
    target = _address("--to", target or (payloads.payload_store if fallback else None))
    if source == target or _is_one_folder(source, target):
        raise typer.BadParameter(f"{target} is the store to copy from", param_hint="--to")
    old, new = (open_at(at, payloads, metrics, mark=False) for at in (source, target))
    pool = await connect(settings.persistence)
    try:
        await confirm(pool, old)
        yield pool, old, new
    except PayloadOutage as error:
        fail(f"{error}; the same command goes on", status=_UNKNOWN)
    finally:
        await pool.close()


def _is_one_folder(source: str, target: str) -> bool:
    """Return whether both are the same folder: removing the source would then remove the copy."""
    old, new = folder_at(source), folder_at(target)
    if old is None or new is None or not old.exists() or not new.exists():
        return False
    return old.samefile(new)


def _address(option: str, value: str | None) -> str:
    if value is None:
        raise typer.BadParameter(
            "name the store, as s3://bucket/prefix or file:///folder", param_hint=option
        )
    try:
        return known_store(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r} {error}", param_hint=option) from None
