"""``crossfade dlq list --group``: the pending dead letters by cause."""

from __future__ import annotations

import msgspec

from compose.commands.options.bounds import LARGEST_INTEGER
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, err, out, run
from persistence.database.pool import connect
from persistence.dead_letters.groups import CauseGroups, LetterGroup, letter_groups

__all__ = ["list_groups"]

_AT_ONCE = 100


def list_groups(*, limit: int, as_json: bool) -> None:
    """Print the groups, and how to select one of them."""
    groups, more, ungrouped = run(lambda: _read(min(limit, LARGEST_INTEGER)))
    if as_json:
        out.json(msgspec.to_builtins(groups))
    elif groups:
        out.print(_table(groups))
    elif not ungrouped:
        err.print("No dead letters are pending.")
    if ungrouped:
        letters = counted(ungrouped, "letter")
        err.print(f"No cause yet for {letters} of an older release: look again later.")
    if more:
        err.print("There are more groups: --limit")
    if groups and not as_json:
        err.print("One group alone: --cause '...' with list, redrive or discard.")


async def _read(limit: int) -> tuple[list[LetterGroup], bool, int]:
    """Return up to ``limit`` groups, whether there are more, and how many letters have no group."""
    pool = await connect(client_settings().persistence)
    found: list[LetterGroup] = []
    page = CauseGroups([], None, 0)
    try:
        while True:
            left = limit - len(found)
            page = await letter_groups(pool, after=page.next, limit=min(_AT_ONCE, left))
            found += page.items
            if page.next is None or len(found) >= limit:
                return found, page.next is not None, page.ungrouped
    finally:
        await pool.close()


def _table(groups: list[LetterGroup]) -> Grid:
    table = Grid()
    table.add_column("letters", right=True)
    table.add_column("reason")
    table.add_column("cause", prose=True)
    table.add_column("oldest", drop=3)
    table.add_column("newest", drop=2)
    table.add_column("redrives", right=True, drop=4)
    table.add_column("latest", right=True, drop=1)
    for group in groups:
        table.add_row(
            f"{group.letters}{'+' * group.more}",
            group.reason,
            group.cause,
            group.oldest,
            group.newest,
            str(group.redrives),
            str(group.latest),
        )
    return table
