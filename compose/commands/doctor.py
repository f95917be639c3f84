"""``crossfade doctor``: examines everything that is configured."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from compose.commands.options.common import Json, Wide
from compose.doctor.observation import Grade, Observation
from compose.grid import Grid
from compose.output import client_settings, err, out, run
from compose.terminal import progress_bar, styled

__all__ = ["examine"]

_STATUS = {Grade.FINE: 0, Grade.WARNING: 0, Grade.UNKNOWN: 3, Grade.BAD: 1}
_STYLES = {
    Grade.FINE: "green",
    Grade.WARNING: "yellow",
    Grade.UNKNOWN: "blue",
    Grade.BAD: "bold red",
}


def examine(
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for a warning too.")
    ] = False,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Connect to all that is configured, and say what is wrong.

    It examines versions, roles, rights, durability and clocks, reports promises that can't be kept,
    and changes nothing. Alarms of the running service are bad. Exit status 1 if something is bad;
    3 if something is unknown, as a server that did not answer in time or does not tell; else 0.
    """
    settings = client_settings()

    async def main() -> dict[str, list[Observation]]:
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
                    **msgspec.to_builtins(observation),
                    "grade": observation.grade.name.lower(),
                }
                for of, observations in found.items()
                for observation in observations
            ]
        )
    else:
        _print(found)
    worst = max((observation.grade for group in found.values() for observation in group), default=0)
    if strict and worst == Grade.WARNING:
        sys.exit(1)
    sys.exit(_STATUS[Grade(worst)])


def _print(found: dict[str, list[Observation]]) -> None:
    table = Grid("of", "what")
    table.add_column("grade")
    table.add_column("found", prose=True)
    for of, observations in found.items():
        for observation in observations:
            name = observation.grade.name.lower()
            table.add_row(
                of, observation.what, styled((name, _STYLES[observation.grade])), observation.found
            )
    out.print(table)
    for of, observations in found.items():
        for observation in observations:
            if observation.remedy is not None:
                promise = f" (promise {observation.promise})" if observation.promise else ""
                head = (f"{of}, {observation.what}{promise}:", _STYLES[observation.grade])
                out.print()
                out.print(styled(head, " ", observation.remedy))
