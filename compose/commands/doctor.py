"""``crossfade doctor``: look at everything that is configured."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from compose.commands.options import Json, Wide
from compose.doctor.finding import Finding, Verdict
from compose.grid import Grid
from compose.output import client_settings, err, out, run
from compose.terminal import progress_bar, styled

__all__ = ["examine"]

_STATUS = {Verdict.FINE: 0, Verdict.WARNING: 0, Verdict.UNKNOWN: 3, Verdict.BAD: 1}
_STYLES = {
    Verdict.FINE: "green",
    Verdict.WARNING: "yellow",
    Verdict.UNKNOWN: "blue",
    Verdict.BAD: "bold red",
}


def examine(
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for a warning too.")
    ] = False,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Connect to everything that is configured, and say what is wrong.

    It looks at versions, roles, rights, durability, clocks, and what a promise lacks; it changes
    nothing. Exit status 1 if something is bad, 3 if something can't be told, else 0.
    """
    settings = client_settings()

    async def main() -> dict[str, list[Finding]]:
        from compose.doctor.examination import examine as look  # noqa: PLC0415 - imports all

        with progress_bar(err) as bar:
            bar.add_task("looking", total=None)
            return await look(settings)

    found = run(main)
    if as_json:
        out.json(
            [
                {
                    "of": of,
                    **msgspec.to_builtins(finding),
                    "verdict": finding.verdict.name.lower(),
                }
                for of, findings in found.items()
                for finding in findings
            ]
        )
    else:
        _print(found)
    worst = max((finding.verdict for group in found.values() for finding in group), default=0)
    if strict and worst == Verdict.WARNING:
        sys.exit(1)
    sys.exit(_STATUS[Verdict(worst)])


def _print(found: dict[str, list[Finding]]) -> None:
    table = Grid("of", "what")
    table.add_column("verdict")
    table.add_column("found", prose=True)
    for of, findings in found.items():
        for finding in findings:
            name = finding.verdict.name.lower()
            table.add_row(of, finding.what, styled((name, _STYLES[finding.verdict])), finding.found)
    out.print(table)
    for of, findings in found.items():
        for finding in findings:
            if finding.remedy is not None:
                promise = f" (promise {finding.promise})" if finding.promise else ""
                head = (f"{of}, {finding.what}{promise}:", _STYLES[finding.verdict])
                out.print()
                out.print(styled(head, " ", finding.remedy))
