"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.soak.page.words import HEADINGS, duration, numbers, table
from lab.soak.report import SoakReport

__all__ = ["markdown"]


def markdown(report: SoakReport) -> str:
    """Return the document."""
    options = report.options
    promises = ", ".join(f"{count} {name}" for name, count in report.verdict.items())
    conditions = (
        f"{report.started_at}; {options.rate:g} messages a second, {options.ingresses} ingress and "
        f"{options.workers} worker processes, a fault every {options.fault_seconds:g} s, rounds of "
        f"{options.round_seconds:g} s, seed {options.seed}. {promises}."
    )
    judged = (
        f"Judged: {duration(report.judged)}, after a warm-up of {duration(report.warm_up)}. The "
        "slope is the median of the slopes between all pairs of points."
    )
    parts = [
        f"# A soak of {duration(report.seconds)} on {options.log}",
        f"**{report.sentence[:1].upper()}{report.sentence[1:]}.**",
        conditions,
        _table(("", ""), numbers(report)),
        "## What grows",
        judged,
        _table(HEADINGS, table(report)),
        "## Faults",
        _table(
            ("victim", "faults"),
            [
                (victim, ", ".join(f"{count} {way}" for way, count in sorted(ways.items())))
                for victim, ways in report.faults.items()
            ],
        ),
    ]
    if report.findings:
        parts += [
            "## What is wrong",
            "\n".join(
                f"- {finding.what} `{finding.where}` {finding.facts}" for finding in report.findings
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
