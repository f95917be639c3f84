"""The report on disk: a page, a JSON document, and everything needed to look into a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from compose.rehearsal.page import render
from compose.rehearsal.rehearse import Rehearsal
from compose.rehearsal.report import RehearsalReport

__all__ = ["save"]


def save(folder: Path, report: RehearsalReport, rehearsal: Rehearsal, data: Path) -> Path:
    """Write ``report.html``, ``report.json`` and ``history.jsonl``; return the page's path.

    Where something is wrong, every process's log goes beside them.
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
