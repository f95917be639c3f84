"""The conversion of request bodies to submissions: decoded, checked, and with their ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import takewhile

import msgspec
from msgspec import UNSET, UnsetType

from ingress.accept.submission import Submission
from ingress.schema.json_faults import json_fault, malformed, mended
from ingress.schema.problems import TOO_LARGE, FieldError, Problem
from ingress.schema.requests import (
    KEY_BYTES,
    MessageRequest,
    RequestLimits,
    decode_message,
    exceeds,
    names_given,
    suspicious,
)
from ingress.schema.validation_errors import MOST_ERRORS, explain, field_problem
from ingress.web.headers import RequestContext
from transport.message.identity import idempotency_key, message_id

__all__ = ["Intake", "Item"]

Item = Submission | Problem
"""One item of a batch: the submission to commit, or the problem with it."""


class Intake:
    """Makes submissions of bodies."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._array = _array_of(limits.batch_items)

    def message(
        self, data: bytes, context: RequestContext, key: str | None, most: int = MOST_ERRORS
    ) -> Submission:
        """Return the submission of one message.

        Args:
            data: The message's JSON.
            context: Properties from the request's headers.
            key: The ``Idempotency-Key`` header, if any.
            most: The most faulty fields that a problem lists.

        Raises:
            Problem: The message can't be accepted. The problem lists the faulty fields.
        """
        try:
            request = decode_message(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explained(data, error, most) from error
        if suspicious(request, data, self._limits):
            problem = explain(data, self._limits, most)
            if problem is not None:
                raise problem
        client_message_id = request.client_message_id
        if client_message_id is UNSET:
            if key is None:
                raise field_problem([_NO_KEY])
            client_message_id = key
        elif key is not None and key != client_message_id:
            raise field_problem([_TWO_KEYS])
        made = submission(request, client_message_id, context, len(data))
        if made is None:
            raise field_problem([_LONG_KEY])
        return made

    def batch(self, body: bytes, context: RequestContext) -> Iterator[Item | None]:
        """Yield one item for each element of a JSON array.

        Raises:
            Problem: The body is not a JSON array, or has no items or too many.
        """
        if len(body) <= self._limits.item_bytes:
            try:
                requests = _decode_batch(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                self._count(len(requests))
                items = self._all_sound(requests, body, context)
                if items is not None:
                    yield from items
                    return
        # Some item may be invalid, or the body is long. Check the items one by one, so that an
        # invalid item fails alone, and so that other requests are served between two items.
        yield from self._items(self._split(body), context)

    def lines(self, body: bytes, context: RequestContext) -> Iterator[Item | None]:
        """Yield one item for each line of NDJSON, and ``None`` for steps that skip empty lines.

        Raises:
            Problem: The body has no items or too many.
        """
        lines: list[memoryview] = []
        for line in _lines(body):
            if line is None:
                yield None
                continue
            lines.append(line)
            if len(lines) > self._limits.batch_items:
                break
        self._count(len(lines))
        yield from self._items(lines, context)

    def _split(self, body: bytes) -> list[memoryview | bytes]:
        """Return the undecoded items of a JSON array.

        Raises:
            Problem: The body is not a JSON array, or has no items or too many.
        """
        try:
            return self._undecoded(body)
        except _NOT_JSON as error:
            # Halves of surrogate pairs are faults of their items only, as far as they are mended.
            if (whole := mended(body)) != body:
                with suppress(*_NOT_JSON):
                    return _in_place(self._undecoded(whole), body)
            fault = json_fault(body) or malformed(f"The body is not a JSON array: {error}.")
            raise fault from error

    def _undecoded(self, body: bytes) -> list[memoryview | bytes]:
        try:
            fields = msgspec.structs.astuple(self._array(body))
        except msgspec.ValidationError as error:
            if body.lstrip()[:1] == b"[":
                self._count(self._limits.batch_items + 1)
            raise field_problem(
                [FieldError("(body)", "is not an array", "Send a JSON array of messages.")]
            ) from error
        raws = [memoryview(raw) for raw in takewhile(_given, fields)]
        self._count(len(raws))
        return list(raws)

    def _items(
        self, items: Iterable[memoryview | bytes], context: RequestContext
    ) -> Iterator[Item]:
        left = _LISTED
        for data in items:
            item = self._item(data, context, min(MOST_ERRORS, max(left, 1)))
            if isinstance(item, Problem):
                left -= len(item.errors)
            yield item

    def _all_sound(
        self, requests: list[MessageRequest], body: bytes, context: RequestContext
    ) -> list[Item] | None:
        """Return the submissions if all items are surely valid, or ``None`` if one may not be."""
        if b"\\u0000" in body:
            return None
        limits = self._limits
        names = 0
        items: list[Item] = []
        for request in requests:
            client_message_id = request.client_message_id
            if client_message_id is UNSET:
                return None
            names += names_given(request)
            if exceeds(request, limits):
                return None
            made = submission(request, client_message_id, context, len(request.content) + 256)
            if made is None:
                return None
            items.append(made)
        return items if body.count(b":") == names else None

    def _item(self, data: memoryview | bytes, context: RequestContext, most: int) -> Item:
        if len(data) > self._limits.item_bytes:
            limit = self._limits.item_bytes
            return Problem(
                TOO_LARGE, f"The item has more than {limit} bytes (INGRESS_MAX_BODY_BYTES)."
            )
        try:
            return self.message(bytes(data), context, None, most)
        except Problem as problem:
            return problem

    def _explained(self, data: bytes, error: Exception, most: int) -> Problem:
        # The fallback is for a rule that the decoder has and `explain` does not.
        fault = explain(data, self._limits, most) or json_fault(data)
        return fault or malformed(str(error))

    def _count(self, items: int) -> None:
        most = self._limits.batch_items
        if 1 <= items <= most:
            return
        message = f"holds more than {most} items" if items else "holds no items"
        remedy = f"Send 1 to {most} messages in one batch."
        raise field_problem([FieldError("(body)", message, remedy)])


def submission(
    request: MessageRequest, client_message_id: str, context: RequestContext, size: int
) -> Submission | None:
    """Return the submission of a checked request, with the id that is derived from its key.

    Args:
        request: The decoded JSON of the message.
        client_message_id: The client message id.
        context: Properties from the request's headers.
        size: The size of the JSON in bytes.

    Returns:
        ``None`` if the key is too long for PostgreSQL's unique index.
    """
    conversation = request.conversation_id
    key = idempotency_key(request.sender_id, conversation, client_message_id)
    if len(key) * 4 > KEY_BYTES and len(key.encode()) > KEY_BYTES:
        return None
    return Submission(
        message_id(key, conversation), key, request, client_message_id, context, size=size
    )


def _array_of(most: int) -> Callable[[bytes], msgspec.Struct]:
    """Return a decoder of an array of at most ``most`` items, which leaves the items undecoded.

    The decoder treats the array as a struct, so it stops at the first item too many. A list would
    be built whole, and eight million items in 16 MiB take a second.
    """
    fields = [(f"item_{n}", msgspec.Raw | UnsetType, UNSET) for n in range(most)]
    array = msgspec.defstruct("Array", fields, array_like=True, forbid_unknown_fields=True)
    decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(array).decode
    return decode


def _given(field: object) -> bool:
    return field is not UNSET


def _in_place(items: Sequence[memoryview | bytes], body: bytes) -> list[memoryview | bytes]:
    """Return the bytes of ``body`` where the items of an equally long array stand."""
    view, at = memoryview(body), body.index(b"[") + 1
    places: list[memoryview | bytes] = []
    for item in items:
        between = _BETWEEN.match(body, at)
        assert between is not None
        at = between.end() + len(item)
        places.append(view[between.end() : at])
    return places


def _lines(body: bytes) -> Iterator[memoryview | None]:
    """Yield the lines that are not empty, and ``None`` for each long stretch of empty lines."""
    view, at = memoryview(body), 0
    while at < len(body):
        chunk = body[at : at + _CHUNK]
        blank = len(chunk) - len(chunk.lstrip(_BLANK))
        at += blank
        if blank == len(chunk):
            yield None
            continue
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        yield view[at:end]
        at = end + 1


_CHUNK = 65_536
_BLANK = b" \t\r\n"
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BETWEEN = re.compile(rb"[ \t\r\n,]*")
_LISTED = 1_000
"""Errors that the answer to a batch lists. Past it, each faulty item lists its first error only."""

_decode_batch = msgspec.json.Decoder(list[MessageRequest]).decode

_NO_KEY = FieldError(
    "clientMessageId",
    "is missing",
    "Give each message an id of the sender's own, or send the Idempotency-Key header (not for a "
    "batch).",
)
_TWO_KEYS = FieldError(
    "Idempotency-Key",
    "differs from clientMessageId",
    "Send one of the two, or the same value in both.",
)
_LONG_KEY = FieldError(
    "clientMessageId",
    f"makes a key of more than {KEY_BYTES} bytes with senderId and conversationId",
    "Shorten the three ids; in UTF-8 they count together, ':' and '%' for three bytes each.",
)
