"""From the bytes of a body to submissions: checked, with their identity."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from ingress.explain import explain, field_problem, malformed
from ingress.headers import Context
from ingress.problems import FieldError, Problem
from ingress.requests import KEY_BYTES, Limits, MessageRequest, decode_message, suspicious
from ingress.submission import Submission
from transport.identity import idempotency_key, message_id

__all__ = ["Intake", "Item"]

Item = Submission | Problem
"""One item of a batch: what to commit, or why it can't be."""


class Intake:
    """Turns bodies into submissions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def message(self, data: bytes, context: Context, key: str | None) -> Submission:
        """Return the submission in ``data``; ``key`` is the ``Idempotency-Key`` header's.

        Raises:
            Problem: it is not a message that can be accepted; every faulty field is named.
        """
        try:
            request = decode_message(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explained(data, error) from error
        if suspicious(request, data, self._limits):
            problem = explain(data, self._limits)
            if problem is not None:
                raise problem
        client = request.client_message_id
        if client is UNSET:
            if key is None:
                raise field_problem([_NO_KEY])
            client = key
        elif key is not None and key != client:
            raise field_problem([_TWO_KEYS])
        one = submission(request, client, context, len(data))
        if one is None:
            raise field_problem([_LONG_KEY])
        return one

    def batch(self, body: bytes, context: Context) -> list[Item]:
        """Return one item for each of a JSON array.

        Raises:
            Problem: it is no JSON array, or has no items or too many.
        """
        try:
            requests = _decode_batch(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            self._count(len(requests))
            items = self._all_sound(requests, body, context)
            if items is not None:
                return items
        # Some item is in doubt, or the whole is: one by one, so that it sinks no other.
        try:
            raws = _decode_raws(body)
        except msgspec.ValidationError as error:
            raise field_problem(
                [FieldError("(body)", "is not an array", "Send a JSON array of messages.")]
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(f"The body is not a JSON array: {error}.") from error
        self._count(len(raws))
        return [self._item(bytes(raw), context) for raw in raws]

    def lines(self, body: bytes, context: Context) -> list[Item]:
        """Return one item for each line of NDJSON; empty lines don't count.

        Raises:
            Problem: there are no items or too many.
        """
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        self._count(len(lines))
        return [self._item(line, context) for line in lines]

    def _all_sound(
        self, requests: list[MessageRequest], body: bytes, context: Context
    ) -> list[Item] | None:
        """Return the submissions if nothing is in doubt anywhere, looking at the body once."""
        if b"\\u0000" in body:
            return None
        limits = self._limits
        most = limits.content_bytes // 4
        names = 0
        items: list[Item] = []
        for request in requests:
            client = request.client_message_id
            if client is UNSET:
                return None
            names += 4
            if request.content_type is not UNSET:
                names += 1
            recipients = request.recipient_ids
            if recipients is not UNSET:
                names += 1
                if len(recipients) > limits.recipients:
                    return None
            content = request.content
            if len(content) > most and len(content.encode()) > limits.content_bytes:
                return None
            one = submission(request, client, context, len(content) + 256)
            if one is None:
                return None
            items.append(one)
        # As in `suspicious`: more colons than names is how a name given twice shows.
        return items if body.count(b":") == names else None

    def _item(self, data: bytes, context: Context) -> Item:
        try:
            return self.message(data, context, None)
        except Problem as problem:
            return problem

    def _explained(self, data: bytes, error: Exception) -> Problem:
        # The fallback is for a rule that the decoder knows and `explain` does not.
        return explain(data, self._limits) or malformed(str(error))

    def _count(self, items: int) -> None:
        most = self._limits.batch_items
        if 1 <= items <= most:
            return
        message = f"holds {items} items, more than {most}" if items else "holds no items"
        remedy = f"Send 1 to {most} messages in one batch."
        raise field_problem([FieldError("(body)", message, remedy)])


def submission(
    request: MessageRequest, client: str, context: Context, size: int
) -> Submission | None:
    """Return the submission of a checked request, its identity derived from its key.

    ``None`` if the key is too long for the unique index that keeps a message single.
    """
    conversation = request.conversation_id
    key = idempotency_key(request.sender_id, conversation, client)
    if len(key) * 4 > KEY_BYTES and len(key.encode()) > KEY_BYTES:
        return None
    return Submission(message_id(key, conversation), key, request, client, context, size=size)


_decode_batch = msgspec.json.Decoder(list[MessageRequest]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode

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
