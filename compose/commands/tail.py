"""``crossfade tail``: messages as they are accepted, and as they become rows or dead letters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from compose.commands.options.common import JsonLines
from compose.output import client_settings, err, must_still_run, out, run
from compose.process.logs.read_only import Watching, watching
from compose.settings import Settings
from compose.terminal import brief, milliseconds, styled
from persistence.errors import Outage
from persistence.reads.content_text import content_text
from persistence.reads.outcomes import MessageOutcome, message_outcomes
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Record, Topic
from transport.errors import DecodeError
from transport.message.envelope import Message, decode
from transport.message.partitioner import partition_for
from transport.progress import progress_everywhere

__all__ = ["follow"]

_EVERY = 0.25
_AT_ONCE = 500
_REMEMBERED = 5_000
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_STYLES = {"accepted": "cyan", "persisted": "green", "dead_lettered": "red", "unreadable": "red"}


def follow(
    *,
    conversation: Annotated[
        str | None, typer.Option(help="Only this conversation's messages.")
    ] = None,
    content: Annotated[bool, typer.Option("--content", help="Show the content, too.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Follow messages as they are accepted and persisted.

    It starts with the next message, and goes on until Ctrl-C.
    """
    settings = client_settings()
    run(lambda: _follow(settings, _Printer(content=content, as_json=as_json), conversation))


async def _follow(settings: Settings, printer: _Printer, conversation: str | None) -> None:
    async with watching(settings) as look:
        log = look.consumed
        chosen = (
            range(log.partitions)
            if conversation is None
            else [partition_for(conversation, log.partitions)]
        )
        progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
        positions = {part.partition: part.end for part in progress if part.partition in chosen}
        err.print(f"Following {log.name} from here on. Ctrl-C ends it.")
        tail = _Tail(look, positions, conversation)
        while True:
            must_still_run()
            for line in await tail.next():
                printer.print(line)
            await asyncio.sleep(_EVERY)


class _Tail:
    """Reads the log without a consumer group, and asks PostgreSQL for the messages' outcomes."""

    def __init__(
        self, look: Watching, positions: dict[int, str | None], conversation: str | None
    ) -> None:
        self._look = look
        self._positions = positions
        self._conversation = conversation
        self._waiting: dict[str, Message] = {}

    async def next(self) -> list[dict[str, str]]:
        """Return the events since the last call, as lines."""
        pages = await asyncio.gather(*(self._page(partition) for partition in self._positions))
        records = sorted((r for page in pages for r in page), key=lambda record: record.appended_at)
        lines = [line for record in records for line in self._line(record)]
        return lines + await self._outcomes()

    async def _page(self, partition: int) -> Sequence[Record]:
        records = await self._look.consumed.read(
            Topic.MESSAGES, partition, after=self._positions[partition], limit=_AT_ONCE
        )
        if records:
            self._positions[partition] = records[-1].offset
        return records

    def _line(self, record: Record) -> Iterator[dict[str, str]]:
        where = f"{self._look.consumed.name} {record.partition}:{record.offset}"
        at = timestamp(record.appended_at)
        try:
            event = decode(record)
        except DecodeError as error:
            if self._conversation in {None, record.key}:
                yield {"at": at, "what": "unreadable", "where": where, "why": str(error)}
            return
        if isinstance(event, Message) and self._conversation in {None, event.conversation_id}:
            if len(self._waiting) < _REMEMBERED and _UUID.fullmatch(event.message_id):
                self._waiting[event.message_id] = event
            yield {"at": at, "what": "accepted", "where": where, **_named(event)}

    async def _outcomes(self) -> list[dict[str, str]]:
        if not self._waiting:
            return []
        try:
            settled: list[MessageOutcome] = await message_outcomes(
                self._look.pool, list(self._waiting)
            )
        except Outage:
            return []  # asked again at the next call
        lines = []
        for outcome in sorted(settled, key=lambda outcome: outcome.at):
            if (event := self._waiting.pop(outcome.message_id, None)) is None:
                continue
            what = "dead_lettered" if outcome.reason else "persisted"
            line = {"at": outcome.at, "what": what, "where": "", **_named(event)}
            lines.append(line | ({"why": outcome.reason} if outcome.reason else {}))
        return lines


class _Printer:
    def __init__(self, *, content: bool, as_json: bool) -> None:
        self._content = content
        self._as_json = as_json

    def print(self, line: dict[str, str]) -> None:
        """Print one line; the message's content only with ``--content``."""
        if not self._content:
            line.pop("content", None)
        if self._as_json:
            out.json(line, indent=None)
            return
        what = line["what"]
        fields = {**line, "at": milliseconds(line["at"])}
        shown = "  ".join(brief(value) for name, value in fields.items() if name != "what")
        out.print(styled((f"{what:13}", _STYLES[what]), f" {shown}"))


def _named(event: Message) -> dict[str, str]:
    return {
        "message_id": event.message_id,
        "conversation_id": event.conversation_id,
        "client_message_id": event.client_message_id,
        "content": content_text(event),
    }
