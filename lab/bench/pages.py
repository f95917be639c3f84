"""The figures of the documentation: tables, one picture, and the costs of a message.

``python -m lab.bench.pages RESULT.json ...`` writes ``docs/figures.md`` and
``docs/images/latency.svg`` from the results of one or more runs of ``make bench``. It also writes
the costs from ``python -m lab.bench.costs`` into ``docs/capacity.md``, even without results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from lab.bench.capacity_page import page as capacity_page
from lab.bench.figure import Compared, Figure, Limit, Point, median
from lab.bench.latency_picture import draw
from lab.bench.whole_path.table import medians

__all__ = ["main", "page"]

_LATENCIES = ("POST p50 / p99 / p99.9", "row p50 / p99 / p99.9")
_DOCS = Path(__file__).parents[2] / "docs"


class _Result(msgspec.Struct):
    """The parts of a result's file that the page needs."""

    at: str
    transport: str
    machine: dict[str, str | int]
    servers: dict[str, str]
    figures: list[Figure]


def main(files: Sequence[str], docs: Path = _DOCS) -> None:
    """Write the pages and the picture to ``docs``."""
    capacity = docs / "capacity.md"
    capacity.write_text(capacity_page(capacity.read_text()))
    if not files:
        return
    (docs / "images").mkdir(exist_ok=True)
    results = [msgspec.json.decode(Path(file).read_bytes(), type=_Result) for file in files]
    (docs / "figures.md").write_text(page(results))
    points = [
        figure for result in results for figure in result.figures if isinstance(figure, Point)
    ]
    (docs / "images" / "latency.svg").write_text(draw(medians(points)))


def page(results: Iterable[_Result]) -> str:
    """Return ``docs/figures.md``."""
    results = list(results)
    figures = [figure for result in results for figure in result.figures]
    parts = [(Path(__file__).parent / "pages.md").read_text().rstrip()]
    if points := [figure for figure in figures if isinstance(figure, Point)]:
        parts.append("\n".join(_points(points)))
    if judged := [figure for figure in figures if not isinstance(figure, Point)]:
        parts.append("\n".join(_judged(judged)))
    parts += dict.fromkeys(_where(result) for result in results)
    return "\n\n".join(parts) + "\n"


def _points(points: Iterable[Point]) -> Iterable[str]:
    columns = ("load", "service", "rows/s", *_LATENCIES, "CPU a message")
    yield f"| {' | '.join(columns)} |"
    yield "|---|---|---|---|---|---|"
    for p in medians(points):
        post, row = (" / ".join(f"{ms:,.1f}" for ms in of) for of in (p.post_ms, p.row_ms))
        cpu = ", ".join(f"{name} {us:,.0f}" for name, us in p.cpu_us.items())
        refused = f" ({p.refused:,} refused)" if p.refused else ""
        yield (
            f"| {p.load} | {p.name} | {p.rows_per_second:,.0f}{refused} | {post} | {row} | {cpu} |"
        )


def _judged(figures: Iterable[Compared | Limit]) -> Iterable[str]:
    yield "| figure | measured | beside | ratio | target |"
    yield "|---|---|---|---|---|"
    for f in figures:
        if isinstance(f, Compared):
            beside = f"{f.baseline_name}: {median(f.baseline):,.0f}"
            measured = f"{median(f.ours):,.0f} {f.unit}"
            yield f"| {f.name} | {measured} | {beside} | {f.ratio:.2f} | >= {f.target:g} |"
        else:
            sign = "<" if f.must_be == "below" else ">="
            yield f"| {f.name} | {f.value:,.1f} {f.unit} | | | {sign} {f.limit:g} |"


def _where(result: _Result) -> str:
    machine, servers = result.machine, result.servers
    return (
        f"Measured on {result.at[:10]} on {machine['cores']} cores ({machine['cpu']}), Python "
        f"{machine['python']}; {servers['log']}; {servers['postgres']}; {servers['fsync']}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
