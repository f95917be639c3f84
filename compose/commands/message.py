"""``crossfade message``: the history of one message, found by any of its ids."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from compose.commands.options.common import Json, Wide
from compose.grid import Grid
from compose.output import client_settings, err, fail, out, run, warn
from compose.process.logs.read_only import watching
from compose.settings import Settings
from compose.terminal import milliseconds, styled
from ingress.console.views import FoundMessages, Timeline

__all__ = ["show"]

_SHOWN = 20
_UNKNOWN = 3
# Columns, and how early each is dropped on a narrow terminal (0: never).
_COLUMNS = {
    "accepted": 1, "state": 2, "message": 0, "conversation": 3, "client id": 4, "found as": 5,
}  # fmt: skip


def show(
    identifier: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A message id or its beginning, client message id, correlation id, conversation, "
            "or a place such as 'redis 7:1795658271335-0'.",
        ),
    ],
    *,
    as_json: Json = False,
    _wide: Wide = False,
) -> None:
    """Show what happened to a message.

    It shows where the message was appended, each attempt to persist it, its row or dead letter, and
    its receipts.
    """
    settings = client_settings()
    found = run(lambda: _find(settings, identifier))
    if isinstance(found, Timeline):
        if as_json:
            out.json(msgspec.to_builtins(found))
        else:
            _tell(found)
        return
    if as_json:
        out.json(msgspec.to_builtins(found))
    else:
        _list(found)
    if found.note:
        warn(found.note)
    if found.incomplete:
        warn(found.incomplete)
    if not found.items and found.incomplete:
        fail(f"{identifier!r} was not found where it could be looked for", status=_UNKNOWN)
    if not found.items:
        fail(f"no message has the id or conversation {identifier!r}")


async def _find(settings: Settings, text: str) -> Timeline | FoundMessages:
    # FastAPI's models take a moment to import, and other commands don't need them.
    from ingress.console.search.search import Search  # noqa: PLC0415
    from ingress.console.timeline import Timelines  # noqa: PLC0415
    from ingress.messages import Messages  # noqa: PLC0415

    ingress = settings.ingress
    timeout = ingress.ingress_read_timeout_ms / 1000
    async with watching(settings) as look:
        logs = {log.transport.name: log.transport for log in look.logs}
        search = Search(look.consumed, look.pool, logs=logs, timeout_seconds=timeout)
        found = await search.find(text)
        identifier = found.items[0].message_id if len(found.items) == 1 else None
        if identifier is None:
            return found
        timelines = Timelines(
            messages=Messages(
                transport=look.consumed,
                pool=look.pool,
                scan=ingress.ingress_backlog_records,
                timeout_seconds=timeout,
            ),
            pool=look.pool,
            logs=logs,
            trace_url=ingress.ingress_trace_url,
            timeout_seconds=timeout,
        )
        return await timelines.of(identifier) or found


def _list(found: FoundMessages) -> None:
    if found.items:
        out.print(_table(found))
    if len(found.items) > _SHOWN:
        err.print(f"These are {_SHOWN} of {len(found.items)}; --json has them all.")
    if len(found.items) > 1:
        err.print(
            "Several messages have it. 'crossfade message MESSAGE' shows what happened to one."
        )


def _tell(story: Timeline) -> None:
    message = story.message
    out.print(styled((message.message_id, "bold"), "  ", message.state))
    for name, value in (
        ("conversation", message.conversation_id),
        ("client id", message.client_message_id),
        ("correlation", message.correlation_id),
        ("trace", message.trace_url or message.trace_id),
    ):
        if value:
            out.print(f"  {name:12} {value}")
    out.print()
    table = Grid(show_header=False, stacked=True)
    for prose in (False, False, False, True):
        table.add_column(prose=prose)
    for step in story.steps:
        where = f"{step.log} {step.partition}:{step.offset}" if step.log else ""
        table.add_row(
            milliseconds(step.at) if step.at else "not yet",
            step.title,
            where,
            step.detail or "",
            style="red" if step.failed else None,
        )
    out.print(table)
    if story.incomplete:
        warn(story.incomplete)


def _table(found: FoundMessages) -> Grid:
    table = Grid()
    for heading, drop in _COLUMNS.items():
        table.add_column(heading, drop=drop)
    for message in found.items[:_SHOWN]:
        table.add_row(
            milliseconds(message.accepted_at) if message.accepted_at else "unknown",
            message.state,
            message.message_id
            or (f"dead letter {message.dead_letter_id}" if message.dead_letter_id else "-"),
            message.conversation_id or "-",
            message.client_message_id or "-",
            ", ".join(message.matched),
        )
    return table
