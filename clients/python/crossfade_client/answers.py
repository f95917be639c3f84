"""Decoders of answers. They ignore unknown members."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Hashable
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from typing import Any, TypeVar, cast

from crossfade_client.errors import (
    CrossfadeError,
    FieldError,
    ProblemError,
    UnexpectedAnswerError,
    problem_class,
)
from crossfade_client.models import (
    Ack,
    DeadLetter,
    Message,
    Page,
    Payload,
    Position,
    Receipt,
    ReceiptAck,
    Receipts,
)
from crossfade_client.reply import Reply
from crossfade_client.retry import retry_after

__all__ = [
    "ack_of",
    "content_of",
    "message_of",
    "page_of",
    "problem_of",
    "reason_of",
    "receipt_ack_of",
    "receipts_of",
    "results_of",
]

T = TypeVar("T")
_OK = range(200, 300)
_SHA256 = re.compile("[0-9a-f]{64}")
_QUOTED = 200
"""The most characters of a foreign answer that an error text repeats."""


def ack_of(reply: Reply) -> Ack:
    """Return the acknowledgement in an answer.

    Raises:
        UnexpectedAnswerError: The answer is something else. All decoders here raise this.
    """
    return _read(reply, lambda body: _made(Ack, body))


def results_of(reply: Reply, count: int) -> list[Ack | ProblemError]:
    """Return the results of the ``count`` messages of a batch, in their order."""
    wait = retry_after(reply.headers)

    def result(item: Any) -> Ack | ProblemError:
        return _made(Ack, item) if item["status"] in _OK else _problem(item, wait)

    def read(body: Any) -> list[Ack | ProblemError]:
        results = [result(item) for item in body]
        if len(results) != count:
            raise ValueError(f"{len(results)} results for {count} messages")
        return results

    return _read(reply, read)


def message_of(reply: Reply) -> Message:
    """Return the message in an answer."""
    return _read(reply, _message)


def content_of(reply: Reply) -> bytes:
    """Return the content in an answer.

    Raises:
        UnexpectedAnswerError: Its SHA-256 is not the service's ``ETag``, or it has none.
    """
    # A proxy that compresses makes the ETag weak. The payload store's ETags are of another kind.
    named = reply.headers.get("etag", "").removeprefix("W/").strip('"')
    if not reply.redirected and named != sha256(reply.body).hexdigest():
        if _SHA256.fullmatch(named):
            raise UnexpectedAnswerError("the content is not the one that was sent", reply.status)
        raise UnexpectedAnswerError(reason_of(reply), reply.status)
    return reply.body


def page_of(reply: Reply) -> Page:
    """Return the page in an answer."""

    def read(body: Any) -> Page:
        items = tuple(_message({"state": "persisted", **item}) for item in body["items"])
        return Page(items, body["next"], bool(body["hasMore"]))

    return _read(reply, read)


def receipt_ack_of(reply: Reply) -> ReceiptAck:
    """Return the receipt's acknowledgement in an answer."""
    return _read(reply, lambda body: _made(ReceiptAck, body))


def receipts_of(reply: Reply) -> Receipts:
    """Return the receipts in an answer."""

    def read(body: Any) -> Receipts:
        items = tuple(_made(Receipt, item) for item in body["items"])
        return Receipts(items, bool(body["hasMore"]))

    return _read(reply, read)


def problem_of(reply: Reply) -> ProblemError:
    """Return the problem in an error answer; without a document, one made of the status."""
    wait = retry_after(reply.headers)
    try:
        body = json.loads(reply.body)
        return _problem({**body, "status": reply.status}, wait)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        kind = problem_class("", reply.status)
        detail = f"not an answer of Crossfade: {reason_of(reply)}"
        return kind(
            status=reply.status, title=_phrase(reply.status), detail=detail, retry_after=wait
        )


def reason_of(reply: Reply) -> str:
    """Return a text that describes an answer which is not the service's."""
    if "location" in reply.headers:
        return f"it redirects to {reply.headers['location'][:_QUOTED]}"
    kind = reply.headers.get("content-type", "no content type")
    text = re.sub(r"\s+", " ", reply.body[: 4 * _QUOTED].decode("utf-8", "replace")).strip()
    return f"{kind}: {text[:_QUOTED]!r}"


def _read(reply: Reply, read: Callable[[Any], T]) -> T:
    try:
        return read(json.loads(reply.body))
    except CrossfadeError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        unexpected = UnexpectedAnswerError(reason_of(reply), reply.status)
        unexpected.attempts, unexpected.maybe_accepted = reply.attempts, True
        raise unexpected from error


def _problem(body: dict[str, Any], wait: float | None) -> ProblemError:
    status, uri = int(body["status"]), str(body["type"])
    return problem_class(uri.rpartition("/")[2], status)(
        status=status,
        type=uri,
        title=str(body["title"]),
        detail=str(body.get("detail", "")),
        fields=[_made(FieldError, error) for error in body.get("errors", ())],
        correlation_id=body.get("correlationId"),
        retry_after=wait if status >= _RETRY_LATER else None,
    )


_RETRY_LATER = 429


def _message(body: dict[str, Any]) -> Message:
    letter, payload = body.get("deadLetter"), body.get("payload")
    nested: dict[str, Any] = {
        "recipientIds": tuple(body.get("recipientIds") or ()),
        "positions": tuple(_made(Position, position) for position in body.get("positions", ())),
        "receipts": tuple(_made(Receipt, receipt) for receipt in body.get("receipts", ())),
        "deadLetter": _made(DeadLetter, letter) if letter else None,
        "payload": _made(Payload, payload) if payload else None,
    }
    return _made(Message, {**body, **nested})


def _made(kind: type[T], body: dict[str, Any]) -> T:
    """Return an object of the dataclass ``kind``, made of those members of ``body`` it knows."""
    members = _members(cast("Hashable", kind))
    return kind(**{members[name]: value for name, value in body.items() if name in members})


@cache
def _members(kind: Any) -> dict[str, str]:
    """Return the fields of a dataclass: from the name in JSON to the name in Python."""
    return {_camel(field.name): field.name for field in dataclasses.fields(kind)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
