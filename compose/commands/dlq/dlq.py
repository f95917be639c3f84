"""``crossfade dlq``: list, read, redrive and discard dead letters."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import typer

from compose.commands.dlq import redrive
from compose.commands.dlq.groups import list_groups
from compose.commands.dlq.selection import (
    All,
    Cause,
    Conversation,
    Ids,
    Message,
    Newer,
    Older,
    Why,
    chosen,
    conditions,
    must_be_pending,
)
from compose.commands.options.bounds import LARGEST_ID
from compose.commands.options.common import DryRun, Json, Wide, Yes
from compose.commands.options.operator_action import caller, said
from compose.counting import counted
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run
from compose.terminal import confirm, paragraph
from persistence.database.pool import Pool, connect
from persistence.dead_letters.dead_letters import DeadLetterBytes, DeadLetters, StoredDeadLetter
from persistence.dead_letters.selection import Selection, described
from persistence.operator_actions import Actions
from persistence.tables.states import LetterState

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List, read, redrive and discard dead letters.")
app.command(name="redrive")(redrive.redrive)


@app.command(name="list")
def list_letters(
    *,
    reason: Why = None,
    cause: Cause = None,
    conversation: Conversation = None,
    message: Message = None,
    older_than: Older = None,
    newer_than: Newer = None,
    text: Annotated[
        str | None, typer.Option(help="Only those with this text in their error.")
    ] = None,
    state: Annotated[str, typer.Option(help="pending, redriven, discarded or any.")] = "pending",
    group: Annotated[
        bool, typer.Option("--group", help="Group all that are pending by their cause.")
    ] = False,
    before: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_ID, help="Only those below this id: the next page."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most that are listed.")] = 50,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """List dead letters, newest first."""
    if state not in {*LetterState, "any"}:
        raise typer.BadParameter(
            f"{state!r} is none of {', '.join(LetterState)}, any", param_hint="--state"
        )
    selection = conditions(
        reason, conversation, message,
        older_than=older_than, newer_than=newer_than, cause=cause,
    )  # fmt: skip
    if group:
        if selection != Selection() or text or before or state != LetterState.PENDING:
            raise typer.BadParameter("--group groups all that are pending, without conditions")
        list_groups(limit=limit, as_json=as_json)
        return

    async def main() -> tuple[list[StoredDeadLetter], int | None]:
        wanted = None if state == "any" else state
        found: list[StoredDeadLetter] = []
        after = before
        async with _letters() as letters:
            while True:  # each read examines a limited number of letters, of which few may match
                read = await letters.page(
                    selection, text=text, state=wanted, before=after, limit=limit - len(found)
                )
                found += read.items
                after = read.next
                if after is None or len(found) >= limit:
                    return found, after

    page, more = run(main)
    if as_json:
        out.json(msgspec.to_builtins(page))
    elif page:
        out.print(_table(page))
    else:
        err.print("No dead letters." if state == "any" else f"No dead letters are {state}.")
    if more:
        err.print(f"There are more: --before {more}")


@app.command()
def show(
    identifier: Annotated[
        int, typer.Argument(min=1, max=LARGEST_ID, metavar="ID", help="The dead letter's id.")
    ],
    *,
    body: Annotated[
        bool, typer.Option("--body", help="Write the record's bytes alone, as they are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter: its reason, origin and content."""

    async def main() -> tuple[StoredDeadLetter, DeadLetterBytes] | None:
        async with _letters() as letters:
            return await letters.get(identifier)

    found = run(main)
    if found is None:
        fail(f"there is no dead letter {identifier}")
    letter, record = found
    if body:
        if sys.stdout.isatty():
            fail("--body writes bytes as they are, and they may steer a terminal: redirect them")
        sys.stdout.buffer.write(record.body)
        return
    if as_json:
        out.json(_data(letter, record))
        return
    table = Grid(show_header=False, whole=True, stacked=True)
    table.add_column()
    table.add_column(prose=True)
    for name, value in msgspec.structs.asdict(letter).items():
        if value is not None:
            table.add_row(name.replace("_", " "), str(value))
    table.add_row("key", _text(record.key))
    for header, content in record.headers:
        table.add_row(f"header {_text(header)}", _text(content))
    out.print(table)
    out.print()
    out.print(paragraph(_text(record.body)))


def _data(letter: StoredDeadLetter, record: DeadLetterBytes) -> dict[str, object]:
    """Return the letter for JSON, with its bytes as base64 and, if they are UTF-8, as text."""
    return {
        **msgspec.to_builtins(letter),
        "key": _bytes(record.key),
        "headers": [{"name": _bytes(name), "value": _bytes(v)} for name, v in record.headers],
        "body": _bytes(record.body),
    }


def _bytes(value: bytes) -> dict[str, str | None]:
    try:
        text: str | None = value.decode()
    except UnicodeDecodeError:
        text = None
    return {"text": text, "base64": b64encode(value).decode("ascii")}


@app.command()
def discard(
    ids: Ids = None,
    *,
    why: Annotated[str, typer.Option(help="The reason; it is kept with them.", callback=said)],
    everything: All = False,
    reason: Why = None,
    cause: Cause = None,
    conversation: Conversation = None,
    message: Message = None,
    older_than: Older = None,
    newer_than: Newer = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give dead letters up for good.

    They stay listed as discarded, with the name of the user and the reason.
    """
    selection = chosen(
        ids,
        conditions(
            reason,
            conversation,
            message,
            older_than=older_than,
            newer_than=newer_than,
            cause=cause,
        ),
        everything=everything,
    )
    if ids:
        run(lambda: _must_be_pending(ids))
    if dry_run:
        by_reason = run(lambda: _count(selection))
        if as_json:
            out.json({"wouldDiscard": sum(by_reason.values()), "byReason": by_reason})
            return
        out.print(f"would discard {sum(by_reason.values())}")
        for found, letters in by_reason.items():
            out.print(f"  {found}: {letters}")
        return
    up_to = run(_newest)  # what comes while the question is open is not discarded
    if not yes:
        count = sum(run(lambda: _count(selection, up_to)).values())
        confirm(f"Discard {counted(count, 'dead letter')} for good?")

    async def main() -> int:
        who = caller()
        async with (
            _pool() as pool,
            Actions(pool).recorded(
                "discard", who=who, target=described(selection), why=why
            ) as entry,
        ):
            count = await DeadLetters(pool).discard(selection, by=who, why=why, up_to=up_to)
            entry.result = f"{count} discarded"
            return count

    discarded = run(main)
    if as_json:
        out.json({"discarded": discarded})
        return
    out.print(f"discarded {discarded}")


async def _must_be_pending(ids: list[int]) -> None:
    async with _letters() as letters:
        await must_be_pending(letters, ids)


async def _newest() -> int:
    async with _letters() as letters:
        return await letters.newest()


async def _count(selection: Selection, up_to: int | None = None) -> dict[str, int]:
    async with _letters() as letters:
        return await letters.count(selection, up_to=up_to)


@asynccontextmanager
async def _pool() -> AsyncIterator[Pool]:
    pool = await connect(client_settings().persistence)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def _letters() -> AsyncIterator[DeadLetters]:
    async with _pool() as pool:
        yield DeadLetters(pool)


def _table(letters: Sequence[StoredDeadLetter]) -> Grid:
    table = Grid()
    table.add_column("id", right=True)
    table.add_column("failed at")
    table.add_column("reason")
    table.add_column("kind", drop=6)
    table.add_column("message", drop=2)
    table.add_column("conversation", drop=4)
    table.add_column("at", drop=3)
    table.add_column("state", drop=5)
    table.add_column("redrives", right=True, drop=7)
    table.add_column("error", prose=True, drop=1)
    for letter in letters:
        table.add_row(
            str(letter.id),
            letter.failed_at,
            letter.reason,
            letter.kind,
            letter.message_id or "-",
            letter.conversation_id or "-",
            f"{letter.transport} {letter.partition}:{letter.offset}",
            letter.state,
            str(letter.redrives),
            letter.error,
        )
    return table


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
