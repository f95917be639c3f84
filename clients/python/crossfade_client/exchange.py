"""One call with its retries, as a generator: it yields actions, and gets their results.

Nothing here does I/O, sleeps or uses an HTTP library. A driver (one of the clients) carries out
each ``Send`` and ``Pause``, passes each ``Emit`` to the caller, and sends back a ``Reply`` or a
``Failure``.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from crossfade_client.answers import problem_of, reason_of
from crossfade_client.errors import (
    CrossfadeError,
    NoAnswerError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)
from crossfade_client.reply import Reply
from crossfade_client.retry import RETRIED, Retry

__all__ = ["Action", "Call", "Emit", "Failure", "Operation", "Outcome", "Pause", "Send", "tried"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. It is the same on every attempt."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    follow: bool = False
    """Whether to follow a redirect, such as one to a signed URL of the payload store."""


@dataclass(frozen=True, slots=True)
class Send:
    """Action: make one request. ``timeout`` is for the whole exchange, in seconds."""

    call: Call
    timeout: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Action: wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Action: hand a value to the caller, who iterates."""

    value: object


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no answer."""

    error: Exception
    sent: bool
    """Whether the service may have received the request."""
    lasting: bool = False
    """Whether a retry can't help, for example if the certificate is not trusted."""


Action = Send | Pause | Emit
Outcome = Reply | Failure | None
Operation = Generator[Action, Outcome, T]

_OK = range(200, 300)
_NOT_ENQUEUED = frozenset(
    {"overloaded", "too-many-connections", "log-unavailable", "payloads-unavailable"}
)
"""Problem types that promise that no message of the request was accepted."""
_CERTAIN = 500


def tried(call: Call, retry: Retry, timeout: float) -> Operation[Reply]:
    """Send a call until it succeeds, and return its answer (2xx).

    Args:
        call: The request.
        retry: How long and how often to try again.
        timeout: Seconds for one attempt.

    Raises:
        CrossfadeError: The last attempt's error. A retry can't help, or there is no time for one.
    """
    ends = None if retry.deadline is None else time.monotonic() + retry.deadline
    attempts, maybe = 0, False
    while True:
        left = float("inf") if ends is None else max(0.0, ends - time.monotonic())
        # The first attempt is made even if no time is left, and every attempt gets at least 50 ms.
        outcome = yield Send(call, min(timeout, max(left, 0.05)))
        attempts += 1
        if isinstance(outcome, Reply) and outcome.status in _OK:
            return replace(outcome, attempts=attempts, maybe_accepted=maybe)
        error, again = _judged(outcome)
        maybe = maybe or _may_be_accepted(outcome)
        error.attempts, error.maybe_accepted = attempts, maybe
        pause = retry.pause(attempts, getattr(error, "retry_after", None))
        late = ends is not None and time.monotonic() + pause >= ends
        if not again or late or attempts == retry.attempts:
            raise error
        yield Pause(pause)


def _judged(outcome: Outcome) -> tuple[CrossfadeError, bool]:
    """Return the error of an unsuccessful outcome, and whether a retry may help."""
    assert outcome is not None
    if isinstance(outcome, Reply):
        if outcome.status >= _FAULTY:
            return problem_of(outcome), outcome.status in RETRIED
        return UnexpectedAnswerError(reason_of(outcome), outcome.status), False
    kind = NoAnswerError if outcome.sent else UnreachableError
    error = kind(str(outcome.error) or type(outcome.error).__name__)
    error.__cause__ = outcome.error
    return error, not outcome.lasting


_FAULTY = 400


def _may_be_accepted(outcome: Outcome) -> bool:
    """Return whether the service may have accepted a message of the failed request."""
    if isinstance(outcome, Failure):
        return outcome.sent
    assert outcome is not None
    if outcome.status < _CERTAIN:
        return False
    problem = problem_of(outcome)
    name = problem.type.rpartition("/")[2]
    return not (isinstance(problem, UnavailableError) and name in _NOT_ENQUEUED)
