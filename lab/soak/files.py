"""Saves the report as a page, Markdown and JSON, and the logs that help to explain a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from lab.soak.page.markdown import markdown
from lab.soak.page.render import render
from lab.soak.report import SoakReport

__all__ = ["keep_logs", "save"]


def save(folder: Path, report: SoakReport) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json``; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(render(report), "utf-8")
    (folder / "report.md").write_text(markdown(report), "utf-8")
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return page


def keep_logs(folder: Path, data: Path) -> None:
    """Copy every process's log from ``data`` to ``folder/failure``."""
    failure = folder / "failure"
    shutil.rmtree(failure, ignore_errors=True)
    failure.mkdir(parents=True)
    for log in data.glob("*/*.log"):
        shutil.copy(log, failure / f"{log.parent.name}-{log.name}")
