"""The client for threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from crossfade_client.batches import BatchLimits
from crossfade_client.connection import LIMITS, Connection, HttpClient, failure, reply_of
from crossfade_client.exchange import Emit, Failure, Operation, Outcome, Pause, Send
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

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """The synchronous client of one Crossfade service. Several threads may share it.

    It retries failures that may pass (``Retry``), always with the same key, so that nothing is
    stored twice. Its errors are ``CrossfadeError``; their docstrings and ``remedy`` say what to do.
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
        http: httpx.Client | None = None,
    ) -> None:
        """Create a client. It connects when it is first used.

        Args:
            base_url: The service's URL; by default CROSSFADE_URL, else http://localhost:3000.
            api_key: The API key; by default CROSSFADE_API_KEY.
            retry: How long and how often to try again.
            timeout: Seconds for one attempt. ``Client`` gives them to each of its steps, such as a
                write or a read.
            connect_timeout: Seconds for making a connection.
            batch_limits: The limits of one request of ``send_batch``.
            headers: Headers to send with each request.
            limits: httpx's limits of connections. If ``http`` is given, ``AsyncClient`` takes from
                them only how many requests may be under way at once; by default 100.
            http: An httpx client with settings of its own (proxies, certificates). The caller
                closes it.

        Raises:
            ValueError: The URL, the key, or a proxy variable of the environment is not valid.
        """
        self._connection = Connection.of(base_url, api_key, headers or {}, connect_timeout)
        self._operations = Operations(retry or Retry(), timeout, batch_limits or BatchLimits())
        self._http = HttpClient(httpx.Client, limits or LIMITS, http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.base_url!r})"

    def close(self) -> None:
        """Close the connections. A client that was given as ``http`` stays open."""
        if not self._http.is_given:
            self._http.latest.close()

    def send(
        self,
        message: NewMessage,
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> Ack:
        """Send a message. Return when it is durable in the log.

        Args:
            message: The message, with its key. Keep it until this returns.
            correlation_id: An id of your own, kept with the message.
            trace: The trace to continue; by default OpenTelemetry's current span, if any.

        Returns:
            The acknowledgement. ``idempotent_hit`` is true if the message was accepted before.

        Raises:
            CrossfadeError: The message was not acknowledged. ``maybe_accepted`` says whether it
                may be stored nevertheless; then send the same ``message`` again.
            ValueError: A text in it can't be encoded as UTF-8.
        """
        return self._run(self._operations.send(message, correlation_id, trace))

    def send_batch(
        self,
        messages: Iterable[NewMessage],
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> list[BatchResult]:
        """Send messages in as few requests as the limits allow. Return one result for each.

        Only messages whose error may pass are sent again. If a message can't be sent before the
        deadline, the messages of later requests are not sent (``NotSentError``), so that none
        overtakes it.

        Args:
            messages: The messages, in the order to send them.
            correlation_id: An id of your own, kept with each message.
            trace: The trace to continue; by default OpenTelemetry's current span, if any.

        Returns:
            One result for each message, in the same order, with its acknowledgement or its error.
            A message that failed raises nothing.

        Raises:
            ValueError: A text can't be encoded as UTF-8. Nothing was sent.
            TypeError: The content of a message is bytes. Nothing was sent.
        """
        return self._run(self._operations.send_batch(messages, correlation_id, trace))

    def message(self, message_id: str) -> Message:
        """Read a message, in whichever state it is.

        Args:
            message_id: The message's id, from the acknowledgement.

        Raises:
            NotFoundError: There is no such message, in the log or in PostgreSQL.
        """
        return self._run(self._operations.message(message_id))

    def content(self, message_id: str, *, timeout: float | None = None) -> bytes:
        """Read the content of a message as bytes. Text is UTF-8.

        Args:
            message_id: The message's id, from the acknowledgement.
            timeout: Seconds for one attempt, by default the client's; large content may need more.

        Raises:
            NotFoundError: There is no such message.
            ServiceError: The payload store has lost the content.
        """
        return self._run(self._operations.content(message_id, timeout))

    def wait(self, message_id: str, *, timeout: float = 30.0) -> Message:
        """Wait until the message is persisted (has its row in PostgreSQL), and return it.

        Args:
            message_id: The message's id, from the acknowledgement.
            timeout: Seconds to wait for the row.

        Raises:
            WaitTimeoutError: The message has no row in that time. It is safe in the log
                nevertheless.
            DeadLetteredError: The message could not be persisted.
        """
        return self._run(self._operations.wait(message_id, timeout))

    def page(self, conversation_id: str, *, after: str | None = None, limit: int = 100) -> Page:
        """Read one page of a conversation's persisted messages, oldest first.

        Args:
            conversation_id: The conversation's id.
            after: ``next`` of an earlier page; by default the first page is read.
            limit: The most messages of the page, at most 200.
        """
        return self._run(self._operations.page(conversation_id, after, limit))

    def pages(
        self, conversation_id: str, *, after: str | None = None, page_size: int = 100
    ) -> Iterator[Page]:
        """Iterate over the pages of a conversation. Keep ``next`` of the last page to go on later.

        Args:
            conversation_id: The conversation's id.
            after: ``next`` of an earlier page; by default the iteration starts at the beginning.
            page_size: The most messages of a page, at most 200.
        """
        pages = self._iterate(self._operations.pages(conversation_id, after, page_size))
        return cast("Iterator[Page]", pages)

    def messages(
        self, conversation_id: str, *, after: str | None = None, page_size: int = 100
    ) -> Iterator[Message]:
        """Iterate over the persisted messages of a conversation, oldest first.

        Args:
            conversation_id: The conversation's id.
            after: ``next`` of an earlier page; by default the iteration starts at the beginning.
            page_size: The most messages of one request, at most 200.
        """
        messages = self._iterate(self._operations.messages(conversation_id, after, page_size))
        return cast("Iterator[Message]", messages)

    def give_receipt(
        self,
        message_id: str,
        user_id: str,
        state: ReceiptState,
        *,
        correlation_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> ReceiptAck:
        """Record that a user has received (``delivered``) or read (``read``) a message.

        Each of the two is stored once for a user and a message.

        Args:
            message_id: The message's id.
            user_id: The user's id.
            state: ``delivered`` or ``read``.
            correlation_id: An id of your own, kept with the receipt.
            trace: The trace to continue; by default OpenTelemetry's current span, if any.

        Raises:
            NotFoundError: There is no such message.
            ConflictError: The message is a dead letter.
        """
        operation = self._operations.give_receipt(message_id, user_id, state, correlation_id, trace)
        return self._run(operation)

    def receipts(self, message_id: str) -> Receipts:
        """Read a message's receipts.

        Args:
            message_id: The message's id.

        Raises:
            NotFoundError: There is no such message.
        """
        return self._run(self._operations.receipts(message_id))

    def _run(self, operation: Operation[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                outcome = self._act(operation.send(outcome))
        except StopIteration as done:
            return cast("T", done.value)

    def _iterate(self, operation: Operation[None]) -> Iterator[object]:
        outcome: Outcome = None
        try:
            while True:
                action = operation.send(outcome)
                if isinstance(action, Emit):
                    yield action.value
                    outcome = None
                else:
                    outcome = self._act(action)
        except StopIteration:
            return

    def _act(self, action: Any) -> Outcome:
        if isinstance(action, Pause):
            time.sleep(action.seconds)
            return None
        assert isinstance(action, Send)
        try:
            return self._exchange(action)
        except httpx.RequestError as error:
            return failure(error)

    def _exchange(self, send: Send) -> Reply | Failure:
        ends = time.monotonic() + send.timeout
        http = self._http.here()
        request = self._connection.request(http, send.call, send.timeout)
        response = http.send(request, stream=True, follow_redirects=send.call.follow)
        try:
            # httpx's timeouts are for each read; this one is for the whole answer. One that is
            # complete counts, however late: connecting or a large body may have taken all the
            # time, and would take it again.
            parts: list[bytes] = []
            late = False
            for part in response.iter_bytes():
                if late:
                    text = "the answer took too long"
                    return failure(httpx.ReadTimeout(text, request=request))
                parts.append(part)
                late = time.monotonic() > ends
            return reply_of(response, b"".join(parts))
        finally:
            response.close()
