"""Checks over the API that each acknowledged message has one row, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from crossfade import AsyncClient, CrossfadeError, DeadLetteredError, Message, WaitTimeoutError
from lab.sending.load import Conversation

__all__ = ["RowCheck", "check_rows"]

_AT_ONCE = 8
_NAMED = 5


@dataclass
class RowCheck:
    """The result of the check."""

    rows: int = 0
    unacknowledged: int = 0
    """Rows of messages that were never acknowledged."""
    faults: list[str] = field(default_factory=list)
    """The first few faults, one line each."""
    not_checked: str = ""
    """Why some conversations were not checked; empty if all were."""

    @property
    def good(self) -> bool:
        """Whether all conversations were checked without a fault."""
        return not self.faults and not self.not_checked


async def check_rows(
    client: AsyncClient, conversations: Sequence[Conversation], seconds: float
) -> RowCheck:
    """Wait for the rows of all conversations, and check them.

    Args:
        client: A client of the service.
        conversations: The conversations of a load.
        seconds: Time to wait for the rows of all of them.
    """
    checked = RowCheck()
    ends = time.monotonic() + seconds
    turns = asyncio.Semaphore(_AT_ONCE)

    async def check(conversation: Conversation) -> None:
        async with turns:
            try:
                # Each conversation is read at least once, even after the time limit.
                left = max(0.0, ends - time.monotonic())
                await _check(client, conversation, left, checked)
            except CrossfadeError as error:
                checked.not_checked = f"{conversation.name}: {error}"

    async with asyncio.TaskGroup() as tasks:
        for conversation in conversations:
            if conversation.accepted:
                tasks.create_task(check(conversation))
    return checked


async def _check(
    client: AsyncClient, conversation: Conversation, seconds: float, checked: RowCheck
) -> None:
    name = conversation.name
    try:
        await client.wait(conversation.last_id, timeout=seconds)
    except WaitTimeoutError as error:
        _note(checked, f"{name}: {error}")
        return
    except DeadLetteredError as error:
        _note(checked, f"{name}: {error}")
    missing = set(range(conversation.sent)) - conversation.open
    last = -1
    async for message in client.messages(name, page_size=200):
        checked.rows += 1
        number = await _number(client, message)
        if number in conversation.open:
            # Without an acknowledgement its order is not promised: it may be behind later messages.
            checked.unacknowledged += 1
            continue
        if number not in missing:
            _note(checked, f"{name}: message {number} has a second row, {message.message_id}")
        elif number < last:
            _note(checked, f"{name}: message {number} stands after message {last}")
        missing.discard(number)
        last = max(last, number)
    if missing:
        some = ", ".join(str(number) for number in sorted(missing)[:_NAMED])
        _note(checked, f"{name}: {len(missing)} acknowledged messages have no row ({some} ...)")


async def _number(client: AsyncClient, message: Message) -> int:
    """Return the number at the beginning of a content, which the payload store may have."""
    content = message.content
    if content is None:
        content = (await client.content(message.message_id)).decode()
    return int(content.partition(" ")[0])


def _note(checked: RowCheck, fault: str) -> None:
    checked.faults.append(fault)
