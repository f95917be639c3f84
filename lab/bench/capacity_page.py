"""Writes the figures in ``docs/capacity.md``, computed from the measured costs."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from compose.capacity.costs import Costs, measured_costs
from compose.capacity.model import ceiling
from compose.cli import application

__all__ = ["page"]

_COMMAND = ("capacity", "--rate", "5000", "--bytes", "400")
_BLOCK = re.compile(r"(?<=```\n\n)```\n.*?```\n", re.DOTALL)  # the block behind the command's block
_TABLE = re.compile(r"(?<=\|---\|---\|---\|\n)(\|.*\n)+")
_ALL_BUSY = re.compile(r"two cores [\d,]+ messages")
_PARTS = {
    "ingress": "the process that accepts",
    "worker": "the process that persists",
    "log": "Redis, fsync before each answer",
    "postgres": "PostgreSQL",
}


def page(text: str) -> str:
    """Return the page ``text`` with the present figures."""
    costs = measured_costs()
    text = _replaced(_BLOCK, f"```\n{_shown()}```\n", text)
    text = _replaced(_TABLE, _rows(costs), text)
    most = ceiling(costs, 2, 400, 1.0).messages_per_second
    return _replaced(_ALL_BUSY, f"two cores {round(most, -2):,} messages", text)


def _replaced(place: re.Pattern[str], figures: str, text: str) -> str:
    replaced, found = place.subn(lambda _: figures, text, count=1)
    if not found:
        raise ValueError(f"docs/capacity.md has no place for its figures any more: {place.pattern}")
    return replaced


def _shown() -> str:
    """Return the output of ``crossfade capacity``."""
    shown = CliRunner().invoke(application("capacity"), _COMMAND).stdout
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


def _rows(costs: Costs) -> str:
    return "".join(
        f"| {name} | {costs.parts[part].message} | {costs.parts[part].per_kb} |\n"
        for part, name in _PARTS.items()
    )
