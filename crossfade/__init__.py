"""Crossfade's public API. This package itself has the names of the Python client.

    from crossfade import Client, NewMessage

The client is the package ``crossfade-client``, which an application can install without the service
(``from crossfade_client import Client``). Further public modules are:

- ``crossfade.client``: the names of the client.
- ``crossfade.transport``: the contract of a log.
- ``crossfade.envelope``: the content of a record.
- ``crossfade.conformance``: the contract as tests.
- ``crossfade.settings``: the service's settings.
- ``crossfade.kafka_tokens``: tokens for a managed Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade_client import (
        Ack,
        AsyncClient,
        BatchLimits,
        BatchResult,
        Client,
        ConflictError,
        CrossfadeError,
        DeadLetter,
        DeadLetteredError,
        FieldError,
        ForbiddenError,
        InvalidRequestError,
        KeyConflictError,
        Message,
        NewMessage,
        NoAnswerError,
        NotFoundError,
        NotSentError,
        OutcomeUnknownError,
        Page,
        Payload,
        Position,
        ProblemError,
        Receipt,
        ReceiptAck,
        Receipts,
        Retry,
        ServiceError,
        TooLargeError,
        TraceContext,
        UnauthenticatedError,
        UnavailableError,
        UnexpectedAnswerError,
        UnreachableError,
        WaitTimeoutError,
    )

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


def __getattr__(name: str) -> object:
    """Import the client when the first of its names is used: it may not be installed."""
    if name not in __all__:
        raise AttributeError(f"module 'crossfade' has no attribute {name!r}")
    from crossfade import client  # noqa: PLC0415

    found = globals()[name] = getattr(client, name)
    return found
