"""Crossfade's public API. This package itself is the Python client of the service's HTTP API.

    from crossfade import Client, NewMessage

    with Client("http://localhost:3000") as client:
        ack = client.send(NewMessage("order-7", "alice", "Hello"))
        client.wait(ack.message_id)

``import crossfade`` imports only the client. Further public modules are:

- ``crossfade.transport``: the contract of a log.
- ``crossfade.envelope``: the content of a record.
- ``crossfade.conformance``: the contract as tests.
- ``crossfade.settings``: the service's settings.
- ``crossfade.kafka_tokens``: tokens for a managed Kafka.
"""

from __future__ import annotations

from crossfade.client.asynchronous import AsyncClient
from crossfade.client.batches import BatchLimits
from crossfade.client.errors import (
    ConflictError,
    CrossfadeError,
    DeadLetteredError,
    FieldError,
    ForbiddenError,
    InvalidRequestError,
    KeyConflictError,
    NoAnswerError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    ProblemError,
    ServiceError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from crossfade.client.models import (
    Ack,
    BatchResult,
    DeadLetter,
    Message,
    NewMessage,
    Page,
    Payload,
    Position,
    Receipt,
    ReceiptAck,
    Receipts,
    TraceContext,
)
from crossfade.client.retry import Retry
from crossfade.client.synchronous import Client

__all__ = [
    "Ack",
    "AsyncClient",
    "BatchLimits",
    "BatchResult",
    "Client",
    "ConflictError",
    "CrossfadeError",
    "DeadLetter",
    "DeadLetteredError",
    "FieldError",
    "ForbiddenError",
    "InvalidRequestError",
    "KeyConflictError",
    "Message",
    "NewMessage",
    "NoAnswerError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "Page",
    "Payload",
    "Position",
    "ProblemError",
    "Receipt",
    "ReceiptAck",
    "Receipts",
    "Retry",
    "ServiceError",
    "TooLargeError",
    "TraceContext",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "WaitTimeoutError",
]
