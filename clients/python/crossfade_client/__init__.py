"""The Python client of Crossfade's HTTP API.

    from crossfade_client import Client, NewMessage

    with Client("http://localhost:3000") as client:
        ack = client.send(NewMessage("order-7", "alice", "Hello"))
        client.wait(ack.message_id)

``operations.py`` has each operation as a generator. A generator yields requests and pauses, gets
their results, and does no I/O. The synchronous and the asynchronous client run the same generators.
"""

from __future__ import annotations

from crossfade_client.asynchronous import AsyncClient
from crossfade_client.batches import BatchLimits
from crossfade_client.errors import (
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
from crossfade_client.models import (
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
from crossfade_client.retry import Retry
from crossfade_client.synchronous import Client

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
