"""Check the models: ``python -m tests.proof``, or ``--large`` for ``make prove``.

Without Java or TLC nothing is checked and one line says so; where ``CI`` is true that is a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.proof.models import LARGE, SMALL, SpecificationModel
from tests.proof.tlc import CheckerMissingError, ModelVerdict, check


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
    return int(any(verdict.violated for _, verdict in verdicts))


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
