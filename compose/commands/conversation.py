"""``crossfade conversation``: the messages of a conversation, page by page, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from compose.output import client_settings, err, fail, out, run
from compose.settings import Settings
from compose.terminal import brief
from persistence.database.pool import Pool, connect
from persistence.reads import messages as queries
from persistence.reads.content_text import content_text
from persistence.reads.messages import StoredMessage

__all__ = ["show"]

_PAGE = 200
_PAGE_BYTES = 1024 * 1024


def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The conversation.")],
    *,
    after: Annotated[
        UUID | None,
        typer.Option(metavar="MESSAGE", help="Only messages after the one with this id."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most that are listed; by default all.")
    ] = None,
    content: Annotated[bool, typer.Option("--content", help="Show the content, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Show the messages of a conversation, oldest first.

    It shows persisted messages only, in the order of the conversation.
    """
    settings = client_settings()

    async def main() -> tuple[int, str]:
        shown, last = 0, ""
        async for message in _messages(settings, identifier, after, limit):
            _print(message, content=content, as_json=as_json)
            shown, last = shown + 1, message.message.message_id
        return shown, last

    shown, last = run(main)
    if not shown:
        rest = " after that one" if after else ""
        err.print(f"No message of conversation {identifier!r} is persisted{rest}.")
    elif shown == limit:
        err.print(f"There may be more: --after {last}")


async def _messages(
    settings: Settings, identifier: str, after: UUID | None, limit: int | None
) -> AsyncIterator[StoredMessage]:
    """Yield the messages, with one page at a time in memory."""
    pool = await connect(settings.persistence)
    try:
        position = None if after is None else await _position(pool, identifier, after)
        left = limit
        more = True
        while more and left != 0:
            most = _PAGE if left is None else min(_PAGE, left)
            page, more = await queries.conversation(
                pool, identifier, position, most, most_bytes=_PAGE_BYTES
            )
            for message in page:
                yield message
            if page:
                position = page[-1].seq
            if left is not None:
                left -= len(page)
    finally:
        await pool.close()


async def _position(pool: Pool, identifier: str, after: UUID) -> int:
    """Return the ``seq`` of a message of the conversation; end the command if it has no row."""
    message = await queries.message(pool, str(after))
    if message is None or message.message.conversation_id != identifier:
        fail(f"message {after} is no persisted message of conversation {identifier!r}")
    return message.seq


_OF_THE_LOG = ("type", "v", "idempotencyKey", "payloadKey", "fingerprint")
"""The members of an envelope that are left out of the output."""


def _print(stored: StoredMessage, *, content: bool, as_json: bool) -> None:
    message = stored.message
    if as_json:
        row = msgspec.to_builtins(stored)
        members = row.pop("message") | row
        for name in (*_OF_THE_LOG, *(() if content else ("content",))):
            members.pop(name, None)
        out.json(members, indent=None)
        return
    parts = [message.accepted_at, message.message_id, brief(message.sender_id)]
    if content:
        parts.append(brief(content_text(message)))
    out.print("  ".join(parts))
