"""Options of ``crossfade dlq`` that select dead letters: ids, conditions, or ``--all``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from compose.commands.options.age import age_seconds
from compose.commands.options.bounds import LARGEST_ID
from compose.output import fail
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.selection import Selection
from transport.contract import Reason

__all__ = [
    "All",
    "Cause",
    "Conversation",
    "Ids",
    "Message",
    "Newer",
    "Older",
    "Why",
    "chosen",
    "conditions",
    "must_be_pending",
]

Ids = Annotated[
    list[int] | None,
    typer.Argument(
        min=1, max=LARGEST_ID, metavar="ID", help="Ids of dead letters.", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="All that are pending.")]
Why = Annotated[Reason | None, typer.Option("--reason", help="Only those with this reason.")]
Cause = Annotated[
    str | None, typer.Option(help="Only those of this cause, as 'list --group' shows it.")
]
Conversation = Annotated[str | None, typer.Option(help="Only those of this conversation.")]
Message = Annotated[UUID | None, typer.Option(help="Only those of this message.")]
Older = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="Only those that failed longer ago: 90s, 15m, 2h, 3d."),
]
Newer = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only those that failed since: 90s, 15m, 2h, 3d.")
]


def conditions(
    reason: Reason | None,
    conversation: str | None,
    message: UUID | None,
    *,
    older_than: str | None,
    newer_than: str | None,
    cause: str | None = None,
) -> Selection:
    """Return the selection that the options describe; without options, all letters."""
    return Selection(
        reason=reason,
        cause=cause,
        conversation_id=conversation,
        message_id=message,
        failed_before=_ago(older_than, "--older-than"),
        failed_after=_ago(newer_than, "--newer-than"),
    )


def chosen(ids: list[int] | None, selection: Selection, *, everything: bool) -> Selection:
    """Return the selected letters.

    Raises:
        typer.BadParameter: none or several of ids, conditions and ``--all`` were given.
    """
    ways = [bool(ids), selection != Selection(), everything]
    if sum(ways) != 1:
        raise typer.BadParameter(
            "choose dead letters in one way: by ids, by conditions (see --help), or --all"
        )
    return Selection(ids=tuple(ids)) if ids else selection


async def must_be_pending(letters: DeadLetters, ids: list[int]) -> None:
    """End the command if one of ``ids`` is not a pending dead letter."""
    found = await letters.list(Selection(ids=tuple(ids)), state=None, limit=len(ids))
    states = {letter.id: letter.state for letter in found}
    problems = [
        f"there is no dead letter {identifier}" for identifier in ids if identifier not in states
    ]
    problems += [
        f"dead letter {identifier} is {s} already"
        for identifier, s in states.items()
        if s != "pending"
    ]
    if problems:
        fail(*problems)


def _ago(age: str | None, option: str) -> datetime | None:
    if age is None:
        return None
    seconds = age_seconds(age)
    if seconds is None:
        raise typer.BadParameter(
            f"{age!r} is not an age; write 90s, 15m, 2h or 3d", param_hint=option
        )
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    except OverflowError:
        raise typer.BadParameter(
            f"{age!r} is longer ago than times reach", param_hint=option
        ) from None
