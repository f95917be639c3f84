"""Prints the figures as tables, and saves them as JSON."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from compose.interpreter import label
from lab.bench.figure import Compared, Figure, Limit, Point, median
from lab.bench.whole_path.table import show_points

__all__ = ["save", "show", "side_by_side"]

RESULTS = Path(__file__).parent / "results"
_WIDTH = 150
_PACKAGES = ("uvicorn", "fastapi", "pydantic", "redis", "asyncpg", "aiokafka", "uvloop", "msgspec")


def show(console: Console, figures: list[Figure], *, title: str) -> None:
    """Print the figures of one log: the whole path first."""
    points = [figure for figure in figures if isinstance(figure, Point)]
    if points:
        show_points(console, points)
    table = _table(console, title)
    for column in ("ours", "baseline", "ratio", "target"):
        table.add_column(column, justify="right")
    table.add_column("against")
    table.add_column("")
    for figure in figures:
        if isinstance(figure, Point):
            continue
        verdict = "[green]met[/]" if figure.met else "[bold red]not met[/]"
        if isinstance(figure, Compared):
            table.add_row(
                figure.name,
                f"{median(figure.ours):,.0f} {figure.unit}",
                f"{median(figure.baseline):,.0f}",
                f"{figure.ratio:.2f}",
                f">= {figure.target:g}",
                figure.baseline_name,
                verdict,
            )
        else:
            sign = "<" if figure.must_be == "below" else ">="
            table.add_row(
                figure.name,
                _value(figure),
                "",
                "",
                f"{sign} {figure.limit:g}",
                "",
                verdict,
            )
    console.print(table)


def side_by_side(console: Console, found: dict[str, list[Figure]]) -> None:
    """Print the figures of several logs, one column per log."""
    table = _table(console, "side by side (each from its own run on this machine)")
    for log in found:
        table.add_column(log, justify="right")
    judged = {
        log: [figure for figure in figures if not isinstance(figure, Point)]
        for log, figures in found.items()
    }
    names = dict.fromkeys(figure.name for figures in judged.values() for figure in figures)
    for name in names:
        cells = []
        for figures in judged.values():
            figure = next((figure for figure in figures if figure.name == name), None)
            cells.append(_cell(figure) if figure else "")
        table.add_row(name, *cells)
    console.print(table)


def _table(console: Console, title: str) -> Table:
    # Output to a file has a fixed width; in a terminal, the terminal's.
    console.width = console.width if console.is_terminal else _WIDTH
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    return table


def _cell(figure: Compared | Limit) -> str:
    if isinstance(figure, Compared):
        return f"{median(figure.ours):,.0f} {figure.unit} ({figure.ratio:.2f} x)"
    return _value(figure)


def _value(figure: Limit) -> str:
    # Ratios get two decimals, since they can be close to their limit.
    return f"{figure.value:,.{2 if figure.unit == 'x' else 1}f} {figure.unit}"


def save(figures: list[Figure], *, transport: str, quick: bool, servers: dict[str, str]) -> Path:
    """Write the figures with all their runs to ``lab/bench/results/``; return the file."""
    RESULTS.mkdir(exist_ok=True)
    moment = datetime.now(UTC)
    name = f"{moment:%Y%m%dT%H%M%S}-{transport}{'-quick' if quick else ''}.json"
    document = {
        "at": moment.isoformat(timespec="seconds"),
        "transport": transport,
        "quick": quick,
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _cpu(),
            "system": platform.platform(),
            "python": label(),
        },
        "servers": servers,
        "packages": {package: version(package) for package in _PACKAGES},
        "figures": [
            {**msgspec.to_builtins(figure), "met": figure.met, **_summary(figure)}
            for figure in figures
        ],
    }
    path = RESULTS / name
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _summary(figure: Figure) -> dict[str, float]:
    if isinstance(figure, Point):
        return {}
    if isinstance(figure, Compared):
        return {"ratio": round(figure.ratio, 3)}
    return {"value": round(figure.value, 3)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
