"""Sending of many messages: in requests within the service's limits, in order, with retries."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossfade_client.answers import results_of
from crossfade_client.errors import (
    CrossfadeError,
    InvalidRequestError,
    NotSentError,
    ProblemError,
    TooLargeError,
)
from crossfade_client.exchange import Call, Operation, Pause, tried
from crossfade_client.models import Ack, BatchResult, NewMessage
from crossfade_client.retry import RETRIED, Retry

__all__ = ["JSON", "BatchLimits", "described", "encoded", "sent"]

JSON = {"Content-Type": "application/json"}
_PATH = "/api/messages:batch"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The limits of one batch request. The defaults are the service's defaults."""

    items: int = 1_000
    """The most messages."""
    size: int = 16 * 1024 * 1024
    """The most bytes of the whole body."""


@dataclass(slots=True)
class _Item:
    """One message: its index in the caller's list, and its JSON."""

    place: int
    body: bytes
    maybe_accepted: bool = False


Outcomes = dict[int, Ack | CrossfadeError]


def encoded(message: NewMessage) -> bytes:
    """Return a message as JSON.

    Raises:
        ValueError: A text in it can't be encoded as UTF-8.
        TypeError: Its content is bytes.
    """
    if isinstance(message.content, bytes):
        raise TypeError("the content is bytes, which no batch can hold; use send()")
    return described(message, content=message.content, content_type=message.content_type)


def described(message: NewMessage, *, content: str | None, content_type: str) -> bytes:
    """Return a message as JSON, with this content, or without any if ``content`` is ``None``.

    Raises:
        ValueError: A text in it can't be encoded as UTF-8.
    """
    body: dict[str, Any] = {
        "conversationId": message.conversation_id,
        "senderId": message.sender_id,
        "clientMessageId": message.client_message_id,
        "contentType": content_type,
    }
    if content is not None:
        body["content"] = content
    if message.recipient_ids:
        body["recipientIds"] = list(message.recipient_ids)
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a text of the message holds half a surrogate pair ({error}); send whole characters"
        ) from error


def sent(
    messages: Sequence[NewMessage],
    limits: BatchLimits,
    retry: Retry,
    timeout: float,
    headers: Mapping[str, str],
) -> Operation[list[BatchResult]]:
    """Send ``messages`` in order, and return the result of each, in the same order.

    Each request is sent after the answer to the one before it. If a request fails, the messages of
    later requests are not sent, because they would overtake its messages.
    """
    outcomes: Outcomes = {}
    items = [_Item(place, encoded(message)) for place, message in enumerate(messages)]
    waiting = list(reversed(list(_cut(items, limits))))
    while waiting:
        request = _Request(waiting.pop(), outcomes, retry, timeout, headers)
        smaller = yield from request.settle()
        waiting += reversed(smaller)
        if request.stopped_by is not None:
            for rest in waiting:
                _leave_out(rest, request.stopped_by, outcomes)
            break
    return [_result(message, outcomes[place]) for place, message in enumerate(messages)]


class _Request:
    """Sends the messages of one request, and sends them again until each has its outcome."""

    def __init__(
        self,
        items: Sequence[_Item],
        outcomes: Outcomes,
        retry: Retry,
        timeout: float,
        headers: Mapping[str, str],
    ) -> None:
        self.stopped_by: CrossfadeError | None = None
        """The error after which no later request may be sent, if any."""
        self._left = items
        self._outcomes = outcomes
        self._retry = retry
        self._timeout = timeout
        self._headers = {**JSON, **headers}
        self._ends = None if retry.deadline is None else time.monotonic() + retry.deadline
        self._attempts = 0

    def settle(self) -> Operation[list[Sequence[_Item]]]:
        """Send until each message has its outcome.

        Returns:
            Empty; or the messages in two parts, to be sent in requests of their own, if the
            request was too large.
        """
        while True:
            try:
                results = yield from self._results()
            except CrossfadeError as error:
                return self._failed(error)
            self._left = [
                item
                for item, result in zip(self._left, results, strict=True)
                if self._note(item, result)
            ]
            if not self._left:
                return []
            last = [
                found for item in self._left if isinstance(found := self._of(item), ProblemError)
            ]
            pause = self._retry.pause(
                self._attempts, max(error.retry_after or 0.0 for error in last)
            )
            late = self._ends is not None and time.monotonic() + pause >= self._ends
            if late or self._attempts == self._retry.attempts:
                self.stopped_by = last[0]
                return []
            yield Pause(pause)

    def _results(self) -> Operation[list[Ack | ProblemError]]:
        body = b"[" + b",".join(item.body for item in self._left) + b"]"
        call = Call("POST", _PATH, headers=self._headers, body=body)
        reply = yield from tried(call, self._rest(), self._timeout)
        for item in self._left:
            item.maybe_accepted |= reply.maybe_accepted
        results = results_of(reply, len(self._left))
        self._attempts += reply.attempts
        return results

    def _failed(self, error: CrossfadeError) -> list[Sequence[_Item]]:
        """Set the request's error for its messages; if it was too large, return them in parts."""
        for item in self._left:
            item.maybe_accepted |= error.maybe_accepted
        too_much = _too_much(error)
        if too_much and len(self._left) > 1:
            half = len(self._left) // 2
            return [self._left[:half], self._left[half:]]
        error.attempts += self._attempts
        error.maybe_accepted |= any(item.maybe_accepted for item in self._left)
        for item in self._left:
            self._outcomes[item.place] = error
        self.stopped_by = None if too_much else error
        return []

    def _note(self, item: _Item, result: Ack | ProblemError) -> bool:
        """Record the outcome of a message; return whether to send the message again."""
        self._outcomes[item.place] = result
        if isinstance(result, Ack):
            return False
        item.maybe_accepted |= result.type.endswith(_UNKNOWN)
        result.attempts, result.maybe_accepted = self._attempts, item.maybe_accepted
        return result.status in RETRIED

    def _of(self, item: _Item) -> Ack | CrossfadeError:
        return self._outcomes[item.place]

    def _rest(self) -> Retry:
        """Return the retry policy with the remaining time and attempts."""
        ends, attempts = self._ends, self._retry.attempts
        return replace(
            self._retry,
            deadline=None if ends is None else max(_LEAST, ends - time.monotonic()),
            attempts=None if attempts is None else attempts - self._attempts,
        )


_LEAST = 0.05
_UNKNOWN = ("/outcome-unknown", "/internal")


def _cut(items: Sequence[_Item], limits: BatchLimits) -> Iterator[Sequence[_Item]]:
    """Yield ``items`` in parts within the limits. A message that is too large is a part alone."""
    start = 0
    size = 2
    for place, item in enumerate(items):
        needed = len(item.body) + 1
        if place > start and (place - start >= limits.items or size + needed > limits.size):
            yield items[start:place]
            start, size = place, 2
        size += needed
    if items:
        yield items[start:]


def _too_much(error: CrossfadeError) -> bool:
    """Return whether the whole request was too large: the service's limits may be lower."""
    if isinstance(error, TooLargeError):
        return True
    return isinstance(error, InvalidRequestError) and error.field == "(body)"


def _leave_out(items: Sequence[_Item], cause: CrossfadeError, outcomes: Outcomes) -> None:
    for item in items:
        error = NotSentError("not sent: a message before it could not be sent")
        error.__cause__ = cause
        error.maybe_accepted = item.maybe_accepted  # by a request that was split afterwards
        outcomes[item.place] = error


def _result(message: NewMessage, outcome: Ack | CrossfadeError) -> BatchResult:
    if isinstance(outcome, Ack):
        return BatchResult(message, ack=outcome)
    return BatchResult(message, error=outcome)
