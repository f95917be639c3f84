"""The clients' history: every request they sent, and its outcome as far as they know it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from transport.contract import Reason

__all__ = ["ClientAttempt", "ClientHistory", "Outcome", "RequestKind"]


class Outcome(StrEnum):
    """How an attempt ended. After a timeout, a reset or a 503 the outcome is ``unknown``."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class RequestKind(StrEnum):
    """Kind of a request."""

    MESSAGE = "message"
    RECEIPT = "receipt"


class ClientAttempt(msgspec.Struct, kw_only=True):
    """One request. Its times are of the machine's monotonic clock.

    ``key`` is the idempotency key (for a receipt: ``messageId/state/user``). Each content that a
    load sends belongs to one key and one version of its body.
    """

    key: str
    conversation: str
    content: str
    sent: float
    due: float | None = None
    """When its message was due; earlier than ``sent`` if the writer was late."""
    kind: RequestKind = RequestKind.MESSAGE
    client: str = ""
    """The writer that sent it."""
    via: str = ""
    """The ingress that it went to."""
    phase: int | None = None
    """The migration phase that this ingress ran at that time; ``None`` without a migration."""
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
        """Whether the answer was as it should be: 2xx, or 422 for another body under its key."""
        return self.outcome is Outcome.OK or self.status == 422

    @property
    def took(self) -> float:
        """Seconds from when it was due (or sent) until it ended: the writer's delay counts too."""
        return self.ended - (self.sent if self.due is None else self.due)


class ClientHistory:
    """Attempts in the order they were sent, and the poison records that a test planted."""

    def __init__(self, attempts: Sequence[ClientAttempt] = ()) -> None:
        self.attempts: list[ClientAttempt] = list(attempts)
        self.planted: dict[str, Reason] = {}
        """Records that must become dead letters: the reason, by message id (from the header)."""

    def begin(self, attempt: ClientAttempt) -> ClientAttempt:
        """Record an attempt before it is sent, and return it; the caller sets its outcome."""
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
        """Sort the attempts by the time they were sent; needed if they were added as they ended."""
        self.attempts.sort(key=lambda attempt: attempt.sent)

    def count(self, outcome: Outcome) -> int:
        """Return the number of attempts that ended this way."""
        return sum(a.outcome is outcome for a in self.attempts)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in Outcome)
        return f"{len(self.attempts)} attempts: {counts}"
