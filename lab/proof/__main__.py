"""Check the models: ``python -m lab.proof``, or ``--large`` for ``make prove``.

With ``--large`` the last rehearsal is replayed as well, if there is one.

Without Java or TLC nothing is checked and one line says so; where ``CI`` is true that is a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.proof.models import LARGE, SMALL, SpecificationModel
from lab.proof.tlc import ModelVerdict, check
from lab.specification.replay import replay
from lab.specification.tlc import CheckerMissingError

_HISTORY = Path(".crossfade/rehearsal/history.jsonl")


def main(arguments: Sequence[str]) -> int:
    """Check every model, show a table; return the exit status."""
    console = Console()
    large = "--large" in arguments
    models = LARGE if large else SMALL
    try:
        verdicts = [(model, _checked(model, console, large=large)) for model in models]
    except CheckerMissingError as error:
        console.print(f"NOT CHECKED: {len(models)} models of the order argument: {error}")
        return int(os.environ.get("CI", "").lower() in {"1", "true", "yes"})
    console.print(_table(verdicts))
    for model, verdict in verdicts:
        if verdict.violated:
            story = "\n".join(verdict.trace)
            console.print(f"\n{model.name} breaks {verdict.violated}:\n{story}", markup=False)
    refused = _replayed(console) if "--large" in arguments else 0
    return int(refused > 0 or any(verdict.violated for _, verdict in verdicts))


def _replayed(console: Console) -> int:
    """Replay the last rehearsal's history; return how many of its pieces are refused."""
    if not _HISTORY.exists():
        console.print(f"No history in {_HISTORY}: make rehearse writes one.")
        return 0
    with console.status("replaying the last rehearsal"):
        found = replay(_HISTORY, conversations=12, most=5000, seconds=7200.0)
    console.print(
        f"{_HISTORY}: {found.conversations} conversations replayed, {found.events:,} events in "
        f"{found.pieces} pieces, {found.steps} of them steps; {len(found.refused)} pieces refused, "
        f"{len(found.undecided)} undecided"
    )
    for refusal in found.refused:
        console.print(refusal, markup=False)
    return len(found.refused)


def _checked(model: SpecificationModel, console: Console, *, large: bool) -> ModelVerdict:
    with console.status(model.name) as status:
        return check(
            model, lambda states: status.update(f"{model.name}: {states:,} states"), large=large
        )


def _table(verdicts: Sequence[tuple[SpecificationModel, ModelVerdict]]) -> Table:
    table = Table("model", title="The argument of docs/order.md, checked by TLC")
    for heading in ("states", "depth", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for model, verdict in verdicts:
        said = f"{verdict.violated} is violated" if verdict.violated else "every state holds"
        table.add_row(
            model.name, f"{verdict.states:,}", str(verdict.depth), f"{verdict.seconds:.0f}", said
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
