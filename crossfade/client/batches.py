"""Many messages: cut to the service's limits, sent in order, and only what needs it sent again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossfade.client.answers import results_of
from crossfade.client.errors import (
    CrossfadeError,
    InvalidRequestError,
    NotSentError,
    ProblemError,
    TooLargeError,
)
from crossfade.client.exchange import Call, Operation, Pause, tried
from crossfade.client.models import Ack, BatchResult, NewMessage
from crossfade.client.retry import RETRIED, Retry

__all__ = ["JSON", "BatchLimits", "described", "encoded", "sent"]

JSON = {"Content-Type": "application/json"}
_PATH = "/api/messages:batch"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The most that one request may hold. The defaults are the service's."""

    items: int = 1_000
    size: int = 16 * 1024 * 1024
    """Bytes of the whole body."""


@dataclass(slots=True)
class _Item:
    """One message with its index in the caller's list, and its outcome so far."""

    place: int
    body: bytes
    maybe_accepted: bool = False


Outcomes = dict[int, Ack | CrossfadeError]


def encoded(message: NewMessage) -> bytes:
    """Return a message as JSON.

    Raises:
        ValueError: a text in it can't be written as UTF-8.
        TypeError: its content is bytes.
    """
    if isinstance(message.content, bytes):
        raise TypeError("the content is bytes, which no batch can hold; use send()")
    return described(message, content=message.content, content_type=message.content_type)


def described(message: NewMessage, *, content: str | None, content_type: str) -> bytes:
    """Return a message as JSON, without content where that is ``None``.

    Raises:
        ValueError: a text in it can't be written as UTF-8.
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
    """Send ``messages`` in order, and return the outcome of each, in the same order.

    A request is sent after the one before it has its answer. If that does not come, the messages
    of later requests are not sent: they would overtake.
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
    """The messages of one request, sent until each has its outcome."""

    def __init__(
        self,
        items: Sequence[_Item],
        outcomes: Outcomes,
        retry: Retry,
        timeout: float,
        headers: Mapping[str, str],
    ) -> None:
        self.stopped_by: CrossfadeError | None = None
        """Why nothing may be sent after this."""
        self._left = items
        self._outcomes = outcomes
        self._retry = retry
        self._timeout = timeout
        self._headers = {**JSON, **headers}
        self._ends = None if retry.deadline is None else time.monotonic() + retry.deadline
        self._attempts = 0

    def settle(self) -> Operation[list[Sequence[_Item]]]:
        """Return once each message has its outcome; or the messages in parts, if too many."""
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
        """Give the messages the error of their request; or return them in parts."""
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
        """Note the outcome of a message; return whether to send it again."""
        self._outcomes[item.place] = result
        if isinstance(result, Ack):
            return False
        item.maybe_accepted |= result.type.endswith(_UNKNOWN)
        result.attempts, result.maybe_accepted = self._attempts, item.maybe_accepted
        return result.status in RETRIED

    def _of(self, item: _Item) -> Ack | CrossfadeError:
        return self._outcomes[item.place]

    def _rest(self) -> Retry:
        """Return the remaining time and attempts."""
        ends, attempts = self._ends, self._retry.attempts
        return replace(
            self._retry,
            deadline=None if ends is None else max(_LEAST, ends - time.monotonic()),
            attempts=None if attempts is None else attempts - self._attempts,
        )


_LEAST = 0.05
_UNKNOWN = ("/outcome-unknown", "/internal")


def _cut(items: Sequence[_Item], limits: BatchLimits) -> Iterator[Sequence[_Item]]:
    """Yield ``items`` in parts that one request may hold. A message too large for any is alone."""
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
    """Return whether the request as a whole was too large: the service's limits can be lower."""
    if isinstance(error, TooLargeError):
        return True
    return isinstance(error, InvalidRequestError) and error.field == "(body)"


def _leave_out(items: Sequence[_Item], cause: CrossfadeError, outcomes: Outcomes) -> None:
    for item in items:
        error = NotSentError("not sent: a message before it could not be sent")
        error.__cause__ = cause
        outcomes[item.place] = error


def _result(message: NewMessage, outcome: Ack | CrossfadeError) -> BatchResult:
    if isinstance(outcome, Ack):
        return BatchResult(message, ack=outcome)
    return BatchResult(message, error=outcome)
