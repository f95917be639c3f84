"""A client's history: every attempt it made, and the outcome of each as far as it can tell."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from transport.contract import Reason

__all__ = ["ClientAttempt", "ClientHistory", "Outcome", "RequestKind"]


class Outcome(StrEnum):
    """How an attempt ended. A timeout, a reset or a 503 proves nothing: ``unknown``."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class RequestKind(StrEnum):
    """Kind of a request."""

    MESSAGE = "message"
    RECEIPT = "receipt"


class ClientAttempt(msgspec.Struct, kw_only=True):
    """One request. Times are this process's monotonic clock, so two of them can be compared.

    ``key`` is the idempotency key (of a receipt: ``messageId/state/user``). The contents that a
    load sends are unique to a key and a version of its body.
    """

    key: str
    conversation: str
    content: str
    sent: float
    due: float | None = None
    """When its message was due: earlier than ``sent`` where the sender was kept waiting."""
    kind: RequestKind = RequestKind.MESSAGE
    client: str = ""
    """The writer that the message is from."""
    via: str = ""
    """The ingress that it went to."""
    phase: int | None = None
    """The migration's phase that this ingress ran then, where there was a migration."""
    ended: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    status: int | None = None
    message_id: str | None = None
    accepted_at: str | None = None
    hit: bool | None = None
    retry_after: str | None = None
    detail: str = ""

    @property
    def answered(self) -> bool:
        """Whether the client got what it should: 2xx, or 422 for another body under its key."""
        return self.outcome is Outcome.OK or self.status == 422

    @property
    def took(self) -> float:
        """Seconds until it ended, from when it was due: a wait for the sender's turn counts too."""
        return self.ended - (self.sent if self.due is None else self.due)


class ClientHistory:
    """Attempts in the order they were begun, and the poison that a test planted in the log."""

    def __init__(self, attempts: Sequence[ClientAttempt] = ()) -> None:
        self.attempts: list[ClientAttempt] = list(attempts)
        self.planted: dict[str, Reason] = {}
        """Message ids (from the header) of records that must end as dead letters, and why."""

    def begin(self, attempt: ClientAttempt) -> ClientAttempt:
        """Record an attempt before it is sent; the caller fills in how it ended."""
        self.attempts.append(attempt)
        return attempt

    def by_key(self, kind: RequestKind) -> Mapping[str, list[ClientAttempt]]:
        """Return the attempts of one kind by key."""
        found: dict[str, list[ClientAttempt]] = defaultdict(list)
        for attempt in self.attempts:
            if attempt.kind is kind:
                found[attempt.key].append(attempt)
        return found

    def acknowledged(self, kind: RequestKind = RequestKind.MESSAGE) -> Iterator[ClientAttempt]:
        """Yield the attempts that were acknowledged."""
        return (a for a in self.attempts if a.kind is kind and a.outcome is Outcome.OK)

    def in_order(self) -> None:
        """Put attempts that were added as they ended in the order they were sent."""
        self.attempts.sort(key=lambda attempt: attempt.sent)

    def count(self, outcome: Outcome) -> int:
        """Return the number of attempts that ended this way."""
        return sum(a.outcome is outcome for a in self.attempts)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in Outcome)
        return f"{len(self.attempts)} attempts: {counts}"
