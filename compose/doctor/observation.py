"""The findings of an examination."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Grade", "Observation", "bad", "fine", "unknown", "warning"]


class Grade(IntEnum):
    """How much it matters, worst last."""

    FINE = 0
    WARNING = 1
    """It works, and something may be slow, dear or less safe than it could be."""
    UNKNOWN = 2
    """It can't be told: what was to be asked did not answer, or may not be asked."""
    BAD = 3
    """It does not work, or a promise is not kept with it."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    what: str
    """The thing: ``version``, ``durability``, ``clock``."""
    found: str
    grade: Grade = Grade.FINE
    promise: int | None = None
    """The number of the promise in docs/promises.md that is at stake."""
    remedy: str | None = None


def fine(what: str, found: str) -> Observation:
    """Return a observation that needs nothing."""
    return Observation(what=what, found=found)


def warning(what: str, found: str, remedy: str, *, promise: int | None = None) -> Observation:
    """Return one that can wait."""
    return Observation(what=what, found=found, grade=Grade.WARNING, remedy=remedy, promise=promise)


def unknown(what: str, found: str, remedy: str | None = None) -> Observation:
    """Return one that can't be told."""
    return Observation(what=what, found=found, grade=Grade.UNKNOWN, remedy=remedy)


def bad(what: str, found: str, remedy: str, *, promise: int | None = None) -> Observation:
    """Return one that needs somebody now."""
    return Observation(what=what, found=found, grade=Grade.BAD, remedy=remedy, promise=promise)
