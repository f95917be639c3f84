"""Examines until when certificates are valid: those of servers, and our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from compose.doctor.observation import Observation, bad, fine, warning
from transport.certificates import Certificate

__all__ = ["examine_certificates"]

_OURS = "put another in its place, with its key: new connections use it without a restart of ours"
_THEIRS = "renew it on the server: once it has ended, no new connection is made to that server"


def examine_certificates(
    certificates: Sequence[Certificate], *, now: datetime | None = None
) -> Iterator[Observation]:
    """Yield an observation of the server's certificate that ends first, and one of our own."""
    moment = now or datetime.now(UTC)
    for is_ours, what in ((False, "certificate"), (True, "own certificate")):
        found = [each for each in certificates if each.is_ours is is_ours]
        if found:
            yield _observed(what, min(found, key=lambda each: each.ends), moment)


def _observed(what: str, one: Certificate, now: datetime) -> Observation:
    left, day = one.ends - now, f"{one.ends:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta():
        found = f"{one.whose}: it ended on {day}"
        if one.is_ours:
            return bad(what, found, f"{_OURS}; until then the server may refuse us")
        return warning(what, f"{found}, which these settings don't check", "renew it on the server")
    found = f"{one.whose}: it ends on {day}, in {_in_words(left)}"
    if now >= one.overdue:
        return warning(what, found, _OURS if one.is_ours else _THEIRS)
    return fine(what, found)


def _in_words(left: timedelta) -> str:
    return f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"
