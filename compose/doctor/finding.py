"""What an examination found."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Finding", "Verdict", "bad", "fine", "unknown", "warning"]


class Verdict(IntEnum):
    """How much it matters, worst last."""

    FINE = 0
    WARNING = 1
    """It works, and something may be slow, dear or less safe than it could be."""
    UNKNOWN = 2
    """It can't be told: what was to be asked did not answer, or may not be asked."""
    BAD = 3
    """It does not work, or a promise is not kept with it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    what: str
    """The thing: ``version``, ``durability``, ``clock``."""
    found: str
    verdict: Verdict = Verdict.FINE
    promise: int | None = None
    """The number of the promise in docs/promises.md that is at stake."""
    remedy: str | None = None


def fine(what: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(what=what, found=found)


def warning(what: str, found: str, remedy: str, *, promise: int | None = None) -> Finding:
    """Return one that can wait."""
    return Finding(what=what, found=found, verdict=Verdict.WARNING, remedy=remedy, promise=promise)


def unknown(what: str, found: str, remedy: str | None = None) -> Finding:
    """Return one that can't be told."""
    return Finding(what=what, found=found, verdict=Verdict.UNKNOWN, remedy=remedy)


def bad(what: str, found: str, remedy: str, *, promise: int | None = None) -> Finding:
    """Return one that needs somebody now."""
    return Finding(what=what, found=found, verdict=Verdict.BAD, remedy=remedy, promise=promise)
