"""Renders the page from ``soak.html``, with the charts and styles of the rehearsal's page."""

from __future__ import annotations

from collections.abc import Iterator

from lab.rehearsal.page.charts import Chart, line, linear
from lab.rehearsal.page.render import pages
from lab.soak.measures import MEASURES
from lab.soak.page.words import HEADINGS, duration, numbers, table
from lab.soak.report import SoakReport

__all__ = ["render"]

_COLOURS = 8
_PIXELS = 110


def render(report: SoakReport) -> str:
    """Return the page as HTML; it loads nothing from a network."""
    template = pages("lab.soak.page").get_template("soak.html")
    return template.render(
        report=report,
        length=duration(report.seconds),
        warm_up=duration(report.warm_up),
        judged=duration(report.judged),
        numbers=numbers(report),
        headings=HEADINGS,
        rows=table(report),
        charts=list(_charts(report)),
        shaded=1000 * min(1.0, report.warm_up / max(report.seconds, 0.001)),
        marks=[(share * 10, duration(report.seconds * share / 100)) for share in (20, 40, 60, 80)],
    )


def _charts(report: SoakReport) -> Iterator[Chart]:
    for kind, measure in MEASURES.items():
        series = {
            name.partition("/")[2]: values
            for name, values in report.points.items()
            if name.partition("/")[0] == kind
        }
        if not series:
            continue
        highest = max(value for values in series.values() for value in values if value is not None)
        axis = linear(highest, f" {measure.unit}" if measure.unit else "")
        kinds = {name: f"c{number % _COLOURS}" for number, name in enumerate(series)}
        yield Chart(
            measure.title,
            measure.says,
            f"{measure.title}: {measure.says}",
            {kinds[name]: name for name in list(series)[:_COLOURS]},
            _PIXELS,
            axis,
            [line(f"line {kinds[name]}", values, axis) for name, values in series.items()],
        )
