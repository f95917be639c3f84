"""``crossfade soak``: hours of load and faults on this machine, to find losses and leaks."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from compose.commands.options.common import Json, LargeShare
from compose.output import err, fail, out, run
from compose.process.signals import Interrupted, Signals
from compose.settings import known
from lab.soak.broker_settings import FIRST, STARTED
from lab.soak.options import SoakOptions
from lab.soak.record import RecordError, SoakRecorder, read_record

__all__ = ["soak"]

_VIOLATED = 1
_CANT_TELL = 3
_INTERRUPTED = 130
_RECORD = "soak.jsonl"


def soak(
    *,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="How long the load runs; 2 by default.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Or this many minutes.")] = None,
    log: Annotated[str, typer.Option(metavar="LOG", help="The log: redis or kafka.")] = FIRST,
    rate: Annotated[float, typer.Option(min=1, help="New messages a second.")] = 100.0,
    ingresses: Annotated[int, typer.Option(min=1, help="Ingress processes.")] = 2,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Worker processes; with 0, those that accept persist as well."),
    ] = 2,
    fault_every: Annotated[
        float, typer.Option(min=0, help="Seconds from one fault to the next, about; 0: none.")
    ] = 20.0,
    round_minutes: Annotated[
        float,
        typer.Option(
            min=0.05, help="Minutes of a round of messages, which is then judged and forgotten."
        ),
    ] = 3.0,
    sample_seconds: Annotated[
        float, typer.Option(min=0.2, help="Seconds from one look at every process to the next.")
    ] = 10.0,
    large: LargeShare = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the random numbers; by default a new one each time."),
    ] = None,
    report: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the record and the report go.")
    ] = Path(".crossfade/soak"),
    again: Annotated[
        bool,
        typer.Option("--again", help="Run nothing: make the report of the record that is there."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the servers' data and every process's log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load and faults for hours: is anything lost, and what grows?

    It starts the servers and processes that it needs, and uses no others. Exit status 1 if anything
    was lost, doubled, reordered or made up, if anything grows, or if the load did not go on; 3 if
    the run was too short to tell what grows, or could not measure it. The record is written during
    the run, so an interrupted soak has a report, too.
    """
    if again:
        raise typer.Exit(_reported(report, as_json=as_json))
    if log not in STARTED:
        raise typer.BadParameter(
            f"{log!r}: it starts {' and '.join(STARTED)} only", param_hint="--log"
        )
    if hours is not None and minutes is not None:
        raise typer.BadParameter("give --hours or --minutes", param_hint="--minutes")
    # The environment's settings must not affect the soak's processes.
    for name in known():
        os.environ.pop(name, None)
    # Drop this process's log lines: its clients would report the injected faults.
    logging.getLogger().addHandler(logging.NullHandler())
    options = SoakOptions(
        minutes=minutes if minutes is not None else (hours or 2.0) * 60,
        log=log,
        rate=rate,
        ingresses=ingresses,
        workers=workers,
        fault_seconds=fault_every,
        round_seconds=round_minutes * 60,
        sample_seconds=sample_seconds,
        large=large,
        seed=random.SystemRandom().randrange(1, 1 << 31) if seed is None else seed,
    )
    raise typer.Exit(run(lambda: _soaked(options, report, keep=keep, as_json=as_json)))


async def _soaked(options: SoakOptions, report: Path, *, keep: bool, as_json: bool) -> int:
    # FastAPI and Alembic take most of a second to import.
    from lab.harness.run_progress import RunProgress  # noqa: PLC0415
    from lab.soak.files import keep_logs  # noqa: PLC0415
    from lab.soak.live import standing  # noqa: PLC0415
    from lab.soak.soak import Soak  # noqa: PLC0415

    signals = Signals()
    signals.install()
    folder = Path(tempfile.mkdtemp(prefix="crossfade-soak-"))
    progress = RunProgress(err, estimated=True)
    interrupted = False
    try:
        with SoakRecorder(report / _RECORD) as recorder:
            soaked = Soak(folder, options, recorder, progress.say)
            with progress.following(partial(standing, soaked), total=options.seconds):
                try:
                    await signals.unless_stopped(soaked.run())
                except Interrupted:
                    err.print("Interrupted; everything it started has been stopped.")
                    interrupted = True
        if soaked.load is None:
            return _INTERRUPTED  # the record is empty
        status = _reported(report, as_json=as_json)
        if status == _VIOLATED and not interrupted:
            keep_logs(report, folder)
        return _INTERRUPTED if interrupted else status
    finally:
        if keep:
            err.print(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _reported(folder: Path, *, as_json: bool) -> int:
    """Make and show the report of the record in a folder; return the exit status."""
    from lab.soak.files import save  # noqa: PLC0415
    from lab.soak.report import make_report  # noqa: PLC0415
    from lab.soak.summary import show  # noqa: PLC0415

    try:
        made = make_report(read_record(folder / _RECORD))
    except FileNotFoundError:
        fail(f"there is no {_RECORD} in {folder}: no soak was run with --report {folder}")
    except RecordError as error:
        fail(str(error))
    page = save(folder, made)
    if as_json:
        out.json(msgspec.to_builtins(made))
    else:
        show(out, made, page)
    return {True: 0, False: _VIOLATED, None: _CANT_TELL}[made.passed]
