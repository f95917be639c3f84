"""A message or receipt on its way through a group commit, and its outcome."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ingress.schema.problems import KEY_CONFLICT, Problem
from ingress.schema.requests import MessageRequest
from ingress.schema.responses import Ack, AckState
from ingress.web.headers import RequestContext
from ingress.web.key_entries import ApiKey
from otel.tracing.requests import MessageTrace, Trace
from transport.contract import Envelope
from transport.message.envelope import Message, Receipt, seal_message, seal_receipt
from transport.message.identity import partition_of
from transport.message.partitioner import partition_for
from transport.message.payload import Payload

__all__ = ["ReceiptSubmission", "Stored", "Submission", "Verdict", "Waiter"]


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The verdict "accepted": the answer of the first message under this id, and its body's digest.

    ``fresh`` is true if the submission itself is that first message. An empty ``fingerprint`` means
    unknown (another producer's record), and conflicts with no body.
    """

    accepted_at: str
    fingerprint: str
    correlation_id: str
    state: AckState
    fresh: bool = False


Verdict = Stored | Problem


class Waiter:
    """Calls ``decided`` once, when all messages of one request have their verdicts.

    The callback refers to the messages, and they refer to this object. So the callback is dropped
    when it is called. Otherwise each request would be a reference cycle for the garbage collector,
    which took a fifth of the cost of a POST, and pauses of 10 ms.
    """

    __slots__ = ("decided", "remaining")

    def __init__(self, decided: Callable[[], None], remaining: int) -> None:
        self.decided = decided
        self.remaining = remaining

    def count_down(self) -> None:
        """Count one verdict; the last one calls ``decided``."""
        self.remaining -= 1
        if self.remaining == 0:
            decided = self.decided
            del self.decided
            decided()


class Submission:
    """A checked message with its id. The group commit sets its time of acceptance.

    Args:
        message_id: The id that is derived from ``key``.
        key: The idempotency key: sender, conversation and client message id.
        request: The decoded JSON of the message.
        client_message_id: The ``clientMessageId``, or else the ``Idempotency-Key`` header.
        context: Properties from the request's headers.
        size: The size of the JSON in bytes.
    """

    __slots__ = (
        "api_key_name",
        "client_message_id",
        "correlation_id",
        "followers",
        "follows",
        "key",
        "message_id",
        "payload",
        "request",
        "since",
        "size",
        "trace",
        "traceparent",
        "tracestate",
        "verdict",
        "waiter",
    )

    # Set by the group commit when the submission is handed in.
    waiter: Waiter
    since: float

    def __init__(
        self,
        message_id: str,
        key: str,
        request: MessageRequest,
        client_message_id: str,
        context: RequestContext,
        *,
        size: int,
    ) -> None:
        self.message_id = message_id
        self.key = key
        self.request = request
        self.client_message_id = client_message_id
        self.api_key_name: str | None = None
        """The name of the API key that the message was sent with."""
        self.correlation_id = context.correlation_id or message_id
        trace = context.trace
        self.trace: MessageTrace | None = None
        self.traceparent = trace.traceparent
        self.tracestate = trace.tracestate
        if trace.request is not None:
            self.trace = trace.request.message(message_id, self.correlation_id)
            self.traceparent = self.trace.traceparent
        self.size = size
        self.payload: Payload | None = None
        """The reference to the content, once that is in the payload store."""
        self.followers: list[AnySubmission] | None = None
        self.follows = False
        self.verdict: Verdict | None = None

    def refer_to(self, payload: Payload, *, keep: bool) -> None:
        """Refer to content in the payload store; with ``keep``, the row gets a copy of it."""
        self.payload = payload
        if not keep:
            self.request = msgspec.structs.replace(self.request, content="")

    def admit(self, key: ApiKey) -> None:
        """Record the message's API key, and refuse the message if ``key`` may not send it.

        Raises:
            Problem: The sender or the conversation lacks the key's prefix (403).
        """
        self.api_key_name = key.name
        request = self.request
        key.answers_for(sender=request.sender_id, conversation=request.conversation_id)

    def partition(self, partitions: int) -> int:
        """Return the partition of the message's conversation."""
        return partition_for(self.request.conversation_id, partitions)

    def event(self, accepted_at: str) -> Message:
        """Return the complete message, with its id, key and time of acceptance."""
        message = self.request.message(
            self.client_message_id, self.message_id, self.key, accepted_at, self.correlation_id
        )
        return message if self.payload is None else message.with_payload(self.payload)

    def seal(self, accepted_at: str, partitions: int) -> Envelope:
        """Return the envelope to append."""
        event = self.event(accepted_at)
        envelope = seal_message(
            event,
            partitions=partitions,
            traceparent=self.traceparent,
            tracestate=self.tracestate,
        )
        if self.payload is not None:
            return envelope  # without the event: the envelope does not have all its content
        return msgspec.structs.replace(envelope, event=event)

    def fingerprint(self) -> str:
        """Return the digest of the message's body, by which repeats are compared."""
        if self.payload is not None:
            return self.payload.fingerprint
        return self.request.message(self.client_message_id).fingerprint()

    def answer(self) -> Ack:
        """Return the acknowledgement. The message has its verdict.

        Raises:
            Problem: The message was not accepted, or its key was used for another body.
        """
        verdict = self.verdict
        assert verdict is not None
        if self.trace is not None:
            self.trace.outcome = self._outcome(verdict)
        if isinstance(verdict, Problem):
            # Raise a copy: one verdict may answer many requests, and each raise adds a traceback.
            raise Problem(verdict.kind, verdict.detail, headers=verdict.headers)
        hit = self.follows or not verdict.fresh
        if hit and verdict.fingerprint and verdict.fingerprint != self.fingerprint():
            raise Problem(
                KEY_CONFLICT,
                f"clientMessageId {self.client_message_id!r} of this sender in this conversation "
                f"was accepted at {verdict.accepted_at} with another body.",
            )
        return Ack(self.message_id, verdict.state, verdict.accepted_at, hit, verdict.correlation_id)

    def _outcome(self, verdict: Verdict) -> str:
        """Return the name of the idempotency check's outcome, for its span."""
        if isinstance(verdict, Problem):
            return verdict.kind.name
        if verdict.fresh and not self.follows:
            return "new"
        if verdict.fingerprint and verdict.fingerprint != self.fingerprint():
            return KEY_CONFLICT.name
        return "repeat"


class ReceiptSubmission:
    """A receipt on its way to its message's partition.

    Args:
        receipt: The receipt without its time, which the group commit sets.
        trace: The request's trace.
        persisted: Whether the receipt's message has its row.
    """

    __slots__ = (
        "followers",
        "follows",
        "message_id",
        "persisted",
        "receipt",
        "since",
        "size",
        "trace",
        "traceparent",
        "tracestate",
        "verdict",
        "waiter",
    )

    waiter: Waiter
    since: float

    def __init__(self, receipt: Receipt, trace: Trace, *, persisted: bool) -> None:
        self.receipt = receipt
        self.persisted = persisted
        self.message_id = receipt.identity
        self.trace: MessageTrace | None = None
        self.traceparent = trace.traceparent
        self.tracestate = trace.tracestate
        if trace.request is not None:
            self.trace = trace.request.message(receipt.message_id, receipt.correlation_id)
            self.traceparent = self.trace.traceparent
        self.size = len(receipt.user_id)
        self.followers: list[AnySubmission] | None = None
        self.follows = False
        self.verdict: Verdict | None = None

    @property
    def correlation_id(self) -> str:
        """The correlation id of the receipt."""
        return self.receipt.correlation_id

    def partition(self, partitions: int) -> int:
        """Return the partition of the receipt's message."""
        return partition_of(self.receipt.message_id, partitions)

    def event(self, accepted_at: str) -> Receipt:
        """Return the complete receipt."""
        return msgspec.structs.replace(self.receipt, at=accepted_at)

    def seal(self, accepted_at: str, partitions: int) -> Envelope:
        """Return the envelope to append."""
        event = self.event(accepted_at)
        envelope = seal_receipt(
            event,
            partitions=partitions,
            traceparent=self.traceparent,
            tracestate=self.tracestate,
        )
        return msgspec.structs.replace(envelope, event=event)

    def fingerprint(self) -> str:
        """Return an empty text: a receipt has no body that could differ from the first one's."""
        return ""

    def stored(self) -> Stored:
        """Return the first such receipt. This one has its verdict.

        Raises:
            Problem: The receipt was not accepted.
        """
        verdict = self.verdict
        assert verdict is not None
        if isinstance(verdict, Problem):
            raise Problem(verdict.kind, verdict.detail, headers=verdict.headers)
        if self.follows:
            return msgspec.structs.replace(verdict, fresh=False)
        return verdict


AnySubmission = Submission | ReceiptSubmission
