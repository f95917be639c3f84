"""Saves the report: a page, a JSON document, and the logs that help to explain a failure."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from lab.rehearsal.page import render
from lab.rehearsal.rehearse import Rehearsal
from lab.rehearsal.report import RehearsalReport

__all__ = ["make_folder", "save"]


def make_folder(folder: Path) -> None:
    """Make the folder for the report, and see that files can be written there.

    Raises:
        OSError: They can't.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        pass


def save(folder: Path, report: RehearsalReport, rehearsal: Rehearsal, data: Path) -> Path:
    """Write ``report.html``, ``report.json`` and ``history.jsonl``; return the page's path.

    If the rehearsal failed, copy every process's log to ``failure/``.

    Args:
        folder: The folder for the report.
        report: The report.
        rehearsal: Has the history's file.
        data: The rehearsal's folder, which has the logs of processes and servers.
    """
    shutil.rmtree(folder / "failure", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    shutil.copyfile(rehearsal.history_file, folder / "history.jsonl")
    page = folder / "report.html"
    page.write_text(render(report), "utf-8")
    if not report.passed:
        failure = folder / "failure"
        failure.mkdir()
        for log in data.glob("*/*.log"):
            shutil.copy(log, failure / f"{log.parent.name}-{log.name}")
    return page
