"""Observations, the findings of an examination."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Grade", "Observation", "bad", "failed", "fine", "unknown", "warning"]

_TIMEOUTS = {"TimeoutError", "KafkaTimeoutError", "RequestTimedOutError", "QueryCanceledError"}
"""The names of time-outs: Python's and redis-py's, aiokafka's, and asyncpg's."""


class Grade(IntEnum):
    """The severity of an observation; the worst grade has the highest value."""

    FINE = 0
    WARNING = 1
    """It works, but something may be slow, expensive or less safe than it could be."""
    UNKNOWN = 2
    """It could not be examined: a server did not answer, or does not allow the query."""
    BAD = 3
    """It does not work, or it breaks a promise."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One finding."""

    what: str
    """Its subject: ``version``, ``durability``, ``clock``."""
    found: str
    grade: Grade = Grade.FINE
    promise: int | None = None
    """The number of the promise in docs/promises.md that is at stake."""
    remedy: str | None = None


def fine(what: str, found: str) -> Observation:
    """Return an observation that needs no action."""
    return Observation(what=what, found=found)


def warning(what: str, found: str, remedy: str, *, promise: int | None = None) -> Observation:
    """Return an observation whose remedy can wait."""
    return Observation(what=what, found=found, grade=Grade.WARNING, remedy=remedy, promise=promise)


def unknown(what: str, found: str, remedy: str | None = None) -> Observation:
    """Return an observation of a subject that could not be examined."""
    return Observation(what=what, found=found, grade=Grade.UNKNOWN, remedy=remedy)


def bad(what: str, found: str, remedy: str, *, promise: int | None = None) -> Observation:
    """Return an observation that needs action now."""
    return Observation(what=what, found=found, grade=Grade.BAD, remedy=remedy, promise=promise)


def failed(
    what: str, error: BaseException, found: str, remedy: str, *, promise: int | None = None
) -> Observation:
    """Return an observation of a query that raised ``error``.

    It is unknown after a time-out: the server or this machine may only be busy. Else it is bad.
    """
    if _is_timeout(error):
        return unknown(what, found, f"run it again, as a busy server answers later; else {remedy}")
    return bad(what, found, remedy, promise=promise)


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if any(kind.__name__ in _TIMEOUTS for kind in type(error).__mro__):
            return True
        error = error.__cause__
    return False
