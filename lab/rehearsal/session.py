"""Runs a rehearsal for a command; saves its report before TLC begins, and also after a signal."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import msgspec

from compose.output import err, out, warn
from compose.process.signals import Interrupted, Signals
from lab.harness.run_progress import RunProgress
from lab.harness.service import RehearsedService
from lab.rehearsal.files import make_folder, save
from lab.rehearsal.live import standing
from lab.rehearsal.options import Options
from lab.rehearsal.rehearse import Rehearsal
from lab.rehearsal.report import RehearsalReport
from lab.rehearsal.summary import show

__all__ = ["rehearse"]

_VIOLATED = 1
_INTERRUPTED = 130


async def rehearse(
    options: Options,
    report: Path,
    *,
    keep: bool = False,
    as_json: bool = False,
    service: type[RehearsedService] = RehearsedService,
) -> int:
    """Run a rehearsal until it ends or a signal comes; return the exit status.

    Args:
        options: The options of the rehearsal.
        report: The folder for the report and the history.
        keep: Whether to keep the servers' data and the logs.
        as_json: Whether to print the report as JSON.
        service: The class of the service's processes.

    Raises:
        OSError: Nothing can be written to ``report``; nothing was started.
    """
    make_folder(report)
    signals = Signals()
    signals.install()
    folder = Path(tempfile.mkdtemp(prefix="crossfade-rehearsal-"))
    progress = RunProgress(err)
    rehearsal = Rehearsal(folder, options, progress.say, service=service, stop=signals.stop)
    try:
        with progress.following(partial(standing, rehearsal), total=len(options.phases)):
            made = await rehearsal.run()
            page = _saved(report, made, rehearsal, folder)
            progress.say(f"the judges have ended: {page or 'their report is not saved'}")
            await rehearsal.replay(made)
        saved = _saved(report, made, rehearsal, folder)
        keep = keep or saved is None
    except Interrupted:
        err.print("Interrupted before there was anything to judge; all that ran has been stopped.")
        return _INTERRUPTED
    finally:
        if keep:
            err.print(f"Data and logs are kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        out.json(msgspec.to_builtins(made))
    else:
        show(out, made, saved or rehearsal.history_file)
    if signals.stop.is_set():
        err.print("Interrupted; everything it started has been stopped.")
        return _INTERRUPTED
    # In CI, fail if the second checker could not run, for example because Go is not installed.
    judged = made.second.missing is None or os.environ.get("CI", "").lower() != "true"
    return 0 if made.passed and judged and saved else _VIOLATED


def _saved(report: Path, made: RehearsalReport, rehearsal: Rehearsal, folder: Path) -> Path | None:
    """Save the report and return the path of its page; say so and return ``None`` if it can't."""
    try:
        return save(report, made, rehearsal, folder)
    except OSError as error:
        warn(f"the report can't be written to {report}: {error.strerror}")
        return None
