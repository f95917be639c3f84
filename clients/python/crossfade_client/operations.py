"""The API's operations, each as a generator of requests and pauses. See ``exchange``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from crossfade_client import answers, batches
from crossfade_client.errors import (
    CrossfadeError,
    DeadLetteredError,
    NoAnswerError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
    WaitTimeoutError,
)
from crossfade_client.exchange import Call, Emit, Operation, Pause, tried
from crossfade_client.forms import form_of
from crossfade_client.models import (
    Ack,
    BatchResult,
    Message,
    NewMessage,
    Page,
    ReceiptAck,
    Receipts,
    ReceiptState,
    State,
    TraceContext,
)
from crossfade_client.retry import Retry
from crossfade_client.tracing import trace_headers

__all__ = ["Operations"]

_FIRST_LOOK, _SLOWEST_LOOK = 0.02, 1.0
"""Seconds between two requests while ``wait`` waits; a row usually takes milliseconds."""


class Operations:
    """The API's operations as generators. A client carries out their actions.

    Args:
        retry: How long and how often to try again.
        timeout: Seconds for one attempt.
        limits: The limits of one batch request.
    """

    def __init__(self, retry: Retry, timeout: float, limits: batches.BatchLimits) -> None:
        self._retry = retry
        self._timeout = timeout
        self._limits = limits

    def send(
        self, message: NewMessage, correlation_id: str | None, trace: TraceContext | None
    ) -> Operation[Ack]:
        """Send one message."""
        if isinstance(message.content, bytes):
            kind, body = form_of(message, message.content)
        else:
            kind, body = batches.JSON, batches.encoded(message)
        call = self._post("/api/messages", body, correlation_id, trace, kind)
        return answers.ack_of((yield from self._tried(call)))

    def send_batch(
        self,
        messages: Iterable[NewMessage],
        correlation_id: str | None,
        trace: TraceContext | None,
    ) -> Operation[list[BatchResult]]:
        """Send many messages, one request after the other, each within the limits."""
        given = list(messages)
        headers = trace_headers(trace) | _correlation(correlation_id)
        return (yield from batches.sent(given, self._limits, self._retry, self._timeout, headers))

    def message(
        self, message_id: str, trace: TraceContext | None = None, retry: Retry | None = None
    ) -> Operation[Message]:
        """Read one message."""
        call = self._get(f"/api/messages/{_part(message_id)}", {}, trace)
        return answers.message_of((yield from self._tried(call, retry)))

    def content(self, message_id: str, timeout: float | None) -> Operation[bytes]:
        """Read the content of one message."""
        call = replace(self._get(f"/api/messages/{_part(message_id)}/content", {}), follow=True)
        reply = yield from tried(call, self._retry, timeout or self._timeout)
        return answers.content_of(reply)

    def wait(self, message_id: str, timeout: float) -> Operation[Message]:
        """Wait until the message is persisted, and return it.

        Raises:
            WaitTimeoutError: The message was not persisted within ``timeout`` seconds.
            DeadLetteredError: The message is a dead letter.
        """
        ends = time.monotonic() + timeout
        looks = 0
        state: State | None = None
        cause: CrossfadeError | None = None
        while True:
            left = max(0.0, ends - time.monotonic())
            try:
                message = yield from self.message(message_id, retry=self._within(left))
            except (NotFoundError, UnreachableError, NoAnswerError, UnavailableError) as error:
                # Go on waiting, also after 404: the service may not find a message far back in the
                # log that is no longer in a cache. It finds the message when that has its row.
                if cause is None or not isinstance(error, NoAnswerError):
                    cause = error  # prefer another error to the timeout that ends the waiting
            else:
                state, cause = message.state, None
                if state in {"persisted", "archived", "erased"}:  # it has or had a row
                    return message
                if state == "dead_lettered":
                    raise DeadLetteredError(message)
            pause = min(_SLOWEST_LOOK, _FIRST_LOOK * 1.5 ** min(looks, 32))
            looks += 1
            left = ends - time.monotonic()
            if left <= 0:
                raise WaitTimeoutError(message_id, state, timeout) from cause
            yield Pause(min(pause, left))

    def page(self, conversation_id: str, after: str | None, limit: int) -> Operation[Page]:
        """Read one page of a conversation."""
        query = {"limit": str(limit)} | ({"after": after} if after is not None else {})
        call = self._get(f"/api/conversations/{_part(conversation_id)}/messages", query)
        return answers.page_of((yield from self._tried(call)))

    def pages(self, conversation_id: str, after: str | None, limit: int) -> Operation[None]:
        """Emit the pages of a conversation until its present end."""
        while True:
            page = yield from self.page(conversation_id, after, limit)
            yield Emit(page)
            after = page.next
            if not page.has_more:
                return

    def messages(self, conversation_id: str, after: str | None, limit: int) -> Operation[None]:
        """Emit the messages of a conversation until its present end."""
        while True:
            page = yield from self.page(conversation_id, after, limit)
            for message in page.items:
                yield Emit(message)
            after = page.next
            if not page.has_more:
                return

    def give_receipt(
        self,
        message_id: str,
        user_id: str,
        state: ReceiptState,
        correlation_id: str | None,
        trace: TraceContext | None,
    ) -> Operation[ReceiptAck]:
        """Record a receipt."""
        body = _json({"userId": user_id, "state": state})
        path = f"/api/messages/{_part(message_id)}/receipts"
        reply = yield from self._tried(self._post(path, body, correlation_id, trace))
        return answers.receipt_ack_of(reply)

    def receipts(self, message_id: str) -> Operation[Receipts]:
        """Read a message's receipts."""
        call = self._get(f"/api/messages/{_part(message_id)}/receipts", {})
        return answers.receipts_of((yield from self._tried(call)))

    def _tried(self, call: Call, retry: Retry | None = None) -> Operation[Any]:
        return tried(call, retry or self._retry, self._timeout)

    def _within(self, left: float) -> Retry:
        """Return the retry policy of one request of ``wait``: it ends when the waiting ends."""
        own = self._retry.deadline
        return replace(self._retry, deadline=max(0.05, min(left, left if own is None else own)))

    def _post(
        self,
        path: str,
        body: bytes,
        correlation_id: str | None,
        trace: TraceContext | None,
        kind: Mapping[str, str] = batches.JSON,
    ) -> Call:
        headers = {**kind, **trace_headers(trace), **_correlation(correlation_id)}
        return Call("POST", path, headers=headers, body=body)

    def _get(self, path: str, query: dict[str, str], trace: TraceContext | None = None) -> Call:
        return Call("GET", path, query=query, headers=trace_headers(trace))


def _part(identifier: str) -> str:
    """Return an id as one segment of a path. ``.`` and ``..`` are escaped: they mean folders."""
    if identifier in {".", ".."}:
        return identifier.replace(".", "%2E")
    return quote(identifier, safe="")


def _correlation(identifier: str | None) -> dict[str, str]:
    return {} if identifier is None else {"X-Correlation-ID": identifier}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
