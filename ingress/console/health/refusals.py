"""Sentences about logs that refuse appends, or slow them down by a quota."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from ingress.console.health.wording import REFUSED, ago, seconds_since, span
from ingress.console.views import LogView, Sentence
from persistence.fleet.append_outage import AppendOutage

__all__ = ["refused_appends", "throttled_logs"]

_UNTRIED = 60.0
"""Seconds. After this time without another append, a refused append proves nothing any more."""
_FIX = "`crossfade doctor` says what is wrong there. Fix it, and processes go on by themselves."
_TRY = (
    "If it is fixed, ask /readyz of that process, or post a message: this ends ten seconds after "
    "the log took one. `crossfade doctor` says what is wrong there."
)


def refused_appends(
    logs: Sequence[LogView], outages: Sequence[AppendOutage], now: datetime
) -> Iterator[Sentence]:
    """Yield sentences about primaries that answer but take no appends.

    Such a primary is full or read-only, or our user lacks a right.
    """
    silent = {log.name for log in logs if log.error}
    refusals: dict[str, list[AppendOutage]] = defaultdict(list)
    for outage in outages:
        if outage.log not in silent:
            refusals[outage.log].append(outage)
    for name, those in refusals.items():
        latest = min(those, key=lambda outage: _untried(outage, now))
        untried = _untried(latest, now)
        whose = "1 process" if len(those) == 1 else f"{len(those)} processes"
        is_tried = untried < _UNTRIED
        if is_tried:
            since = ago(min(outage.since for outage in those), now)
            effect = REFUSED
            remedy = _FIX
            text = f"{name} refuses messages of {whose}, for {since} now: {latest.error}."
        else:
            effect = "No message came since, so it is unknown whether it takes messages now."
            remedy = _TRY
            text = (
                f"{name} refused the last message of {whose}, {span(untried)} ago: {latest.error}."
            )
        yield Sentence(
            level="alarm" if is_tried else "warning",
            text=f"{text} {effect}",
            next=remedy,
            page="partitions",
        )


def _untried(outage: AppendOutage, now: datetime) -> float:
    """Return the seconds since an append was last refused."""
    if outage.untried is not None:
        return outage.untried
    return seconds_since(outage.last, now) or 0.0


def throttled_logs(waits: Mapping[str, Sequence[float]]) -> Iterator[Sentence]:
    """Yield sentences about logs whose quota makes processes wait."""
    for name, seconds in sorted(waits.items()):
        those = "1 process" if len(seconds) == 1 else f"{len(seconds)} processes"
        yield Sentence(
            level="warning",
            text=f"{name} slows down {those}, as a quota is used up: the last wait was "
            f"{span(max(seconds))}. POSTs that can't wait so long are answered 503.",
            next="Raise producer_byte_rate and request_percentage of our user or client id at the "
            "brokers, or send less.",
        )
