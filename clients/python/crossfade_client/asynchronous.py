"""The client for asyncio and Trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
import httpx

from crossfade_client.batches import BatchLimits
from crossfade_client.connection import LIMITS, Connection, failure, reply_of
from crossfade_client.exchange import Emit, Failure, Operation, Outcome, Pause, Send
from crossfade_client.loops import Loops
from crossfade_client.models import (
    Ack,
    BatchResult,
    Message,
    NewMessage,
    Page,
    ReceiptAck,
    Receipts,
    ReceiptState,
    TraceContext,
)
from crossfade_client.operations import Operations
from crossfade_client.reply import Reply
from crossfade_client.retry import Retry

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """The asynchronous client of one Crossfade service. Several tasks may share it.

    It has the methods of ``Client``, to be awaited. Each event loop that uses it has connections of
    its own, whether the loops run one after the other or at once, in threads. If a call is
    cancelled, the service may have accepted the message: send the same ``NewMessage`` again.
    """

    def __init__(  # noqa: PLR0913 - the public options
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        retry: Retry | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        batch_limits: BatchLimits | None = None,
        headers: Mapping[str, str] | None = None,
        limits: httpx.Limits | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Create a client. It connects when it is first used. ``Client`` describes the arguments.

        Raises:
            ValueError: The URL, the key, or a proxy variable of the environment is not valid.
        """
        self._connection = Connection.of(base_url, api_key, headers or {}, connect_timeout)
        self._operations = Operations(retry or Retry(), timeout, batch_limits or BatchLimits())
        self._loops = Loops(limits or LIMITS, http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.base_url!r})"

    async def close(self) -> None:
        """Close the connections of this event loop. A client given as ``http`` stays open."""
        await self._loops.close()

    async def send(
        self,
        message: NewMessage,
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> Ack:
        """Send a message. Return when it is durable in the log. See ``Client.send``."""
        return await self._run(self._operations.send(message, correlation_id, trace))

    async def send_batch(
        self,
        messages: Iterable[NewMessage],
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> list[BatchResult]:
        """Send messages. Return one result for each. See ``Client.send_batch``."""
        return await self._run(self._operations.send_batch(messages, correlation_id, trace))

    async def message(self, message_id: str) -> Message:
        """Read a message, in whichever state it is. See ``Client.message``."""
        return await self._run(self._operations.message(message_id))

    async def content(
        self,
        message_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bytes:
        """Read the content of a message as bytes. See ``Client.content``."""
        return await self._run(self._operations.content(message_id, timeout))

    async def wait(self, message_id: str, *, timeout: float = 30.0) -> Message:  # noqa: ASYNC109
        """Wait until the message is persisted, and return it. See ``Client.wait``."""
        return await self._run(self._operations.wait(message_id, timeout))

    async def page(
        self, conversation_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page:
        """Read one page of a conversation's persisted messages. See ``Client.page``."""
        return await self._run(self._operations.page(conversation_id, after, limit))

    def pages(
        self, conversation_id: str, *, after: str | None = None, page_size: int = 100
    ) -> AsyncIterator[Page]:
        """Iterate over the pages of a conversation. See ``Client.pages``."""
        pages = self._iterate(self._operations.pages(conversation_id, after, page_size))
        return cast("AsyncIterator[Page]", pages)

    def messages(
        self, conversation_id: str, *, after: str | None = None, page_size: int = 100
    ) -> AsyncIterator[Message]:
        """Iterate over the persisted messages of a conversation. See ``Client.messages``."""
        messages = self._iterate(self._operations.messages(conversation_id, after, page_size))
        return cast("AsyncIterator[Message]", messages)

    async def give_receipt(
        self,
        message_id: str,
        user_id: str,
        state: ReceiptState,
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> ReceiptAck:
        """Record that a user has received or read a message. See ``Client.give_receipt``."""
        operation = self._operations.give_receipt(message_id, user_id, state, correlation_id, trace)
        return await self._run(operation)

    async def receipts(self, message_id: str) -> Receipts:
        """Read a message's receipts. See ``Client.receipts``."""
        return await self._run(self._operations.receipts(message_id))

    async def _run(self, operation: Operation[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                outcome = await self._act(operation.send(outcome))
        except StopIteration as done:
            return cast("T", done.value)

    async def _iterate(self, operation: Operation[None]) -> AsyncIterator[object]:
        outcome: Outcome = None
        try:
            while True:
                action = operation.send(outcome)
                if isinstance(action, Emit):
                    yield action.value
                    outcome = None
                else:
                    outcome = await self._act(action)
        except StopIteration:
            return

    async def _act(self, action: Any) -> Outcome:
        if isinstance(action, Pause):
            await anyio.sleep(action.seconds)
            return None
        assert isinstance(action, Send)
        outcomes: list[Reply | Failure | Exception] = []

        async def exchange() -> None:
            try:
                outcomes.append(await self._exchange(action))
            except Exception as error:  # noqa: BLE001 - raised below, not in a group
                outcomes.append(error)

        # In a task of its own, so that asyncio's cancel() comes to httpx as anyio's cancellation.
        # It keeps that from the end of an exchange; asyncio's own would end it half way, and the
        # connection would be lost to this client.
        async with anyio.create_task_group() as group:
            group.start_soon(exchange)
        (outcome,) = outcomes
        if isinstance(outcome, httpx.RequestError):
            return failure(outcome)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _exchange(self, send: Send) -> Reply | Failure:
        here = self._loops.here()
        http = here.http.here()
        request = self._connection.request(http, send.call, send.timeout)
        waiting = True
        # httpx's timeouts are for each read; this one is for the whole answer.
        with anyio.move_on_after(send.timeout):
            async with here.slots:
                waiting = False
                response = await http.send(request, follow_redirects=send.call.follow)
                return reply_of(response, response.content)
        if waiting:
            text = f"{here.slots.total_tokens} requests were under way all the time"
            return failure(httpx.PoolTimeout(text, request=request))
        return failure(httpx.ReadTimeout("the answer took too long", request=request))
