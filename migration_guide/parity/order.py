"""Classify two messages of a conversation that stand in opposite order in the two logs.

The promise: a message sent *after* another's acknowledgement stands after it. So for two exchanged
messages there is one question: may one have been acknowledged before the other was sent? Say that A
stands before B in one log (*here*) and B before A in the other (*there*).

* A producer's own record, and a copy made in ``sync`` mode, are in their log before the message is
  acknowledged. If A's record *there* is such a record, B was in the log *there* before A was, so B
  had been sent before A was acknowledged. Their requests overlapped, and no clock is needed to show
  it. The same holds for B's record *here*.
* An ``async`` copy promises nothing, so clocks decide: B's ``acceptedAt`` (set after B was sent)
  against the time at which A's original was appended (before A was acknowledged). If B was accepted
  earlier, by more than the tolerance, the requests overlapped. Otherwise the overlap is not proven,
  and the pair counts as a difference.
* A ``backfill`` copy stands late on purpose, and counts apart.

One exception for ``sync`` copies: a message is accepted in async mode, its copy is dropped, and its
sender retries in sync mode. That ``sync`` copy is made long after the first acknowledgement. So a
sync copy counts as one only within ``SAME_REQUEST`` seconds of its original, or if the original was
appended when every process was in sync mode already: then it can't have been acknowledged without
the copy, however long the shadow was down and however the copy was repaired. The migration knows
the time since which every process is in sync mode (``mirrored``).

Sync pairs alone thus can't differ in order: for them, an exchange shows that the requests
overlapped. That is the reason for phase 2, and why gates look at a window after its beginning. (One
acknowledgement comes without a copy: a retry that finds its message's *row*. Then the message is
settled, and its place in a log orders nothing any more: docs/order.md.)
"""

from __future__ import annotations

from typing import NamedTuple

from migration_guide.parity.facts import Facts, Mode
from migration_guide.parity.result import ParityResult

__all__ = ["SAME_REQUEST", "Passing", "classified", "passed", "passing"]

SAME_REQUEST = 30.0
"""Seconds; longer than a request waits for both logs (their timeouts, and one retry)."""


class Passing(NamedTuple):
    """A message (B) of which both records are known, as it passes others that still wait.

    ``here``: its record in the log in which it stands after them. ``appended_at``: when its other
    record was appended. ``mode``: what B's copy proves. ``copied_late``: whether that copy may have
    been made after B was acknowledged.
    """

    here: Facts
    mode: Mode
    copied_late: bool
    appended_at: float
    tolerance: float


def passing(here: Facts, there: Facts, *, tolerance: float, mirrored: float | None) -> Passing:
    """Return the message with the records ``here`` and ``there``, which passes others ``here``.

    ``mirrored``: the time since which every process is in sync mode, ``None`` if unknown.
    """
    # B's record *here*: B is the one that passed.
    mode = _mode(here, there, mirrored)
    copied_late = mode in (Mode.ASYNC, Mode.BACKFILL)
    return Passing(here, mode, copied_late, there.appended_at, tolerance)


def passed(facts: Facts, by: Passing) -> None:
    """Record that another message passed ``facts``, which still waits for its counterpart.

    ``facts`` is A's record. It stands before ``by.here``, and its unread counterpart after the
    other record of ``by``. A conversation may have thousands that wait, so this is kept cheap.
    """
    facts.passed_by = facts.passed_by or by.here.message_id
    accepted_after = facts.accepted_at + by.tolerance >= by.appended_at
    late = by.copied_late and accepted_after
    if late and by.mode is Mode.ASYNC:
        facts.passed_differing += 1
        return
    # If A is an original, its copy is still to come. That copy's mode decides, unless the clocks
    # do.
    open_ = facts.mode is Mode.ORIGINAL and not _before(by.here, facts, by.tolerance)
    if late and open_:
        facts.passed_backfilled_unproven += 1
    elif late:
        facts.passed_backfilled += 1
    elif open_:
        facts.passed_unproven += 1
    else:
        facts.passed_overlapping += 1


def classified(
    facts: Facts, counterpart: Facts, *, mirrored: float | None
) -> dict[ParityResult, int]:
    """Count, by result, the pairs noted in ``facts``, now that its counterpart is known."""
    if facts.passed_by is None:
        return {}
    results = {
        ParityResult.ORDER_OVERLAPPED: facts.passed_overlapping,
        ParityResult.ORDER_BACKFILLED: facts.passed_backfilled,
        ParityResult.ORDER_DIFFERS: facts.passed_differing,
    }
    mode = _mode(counterpart, facts, mirrored)
    unproven, backfilled = facts.passed_unproven, facts.passed_backfilled_unproven
    if mode is Mode.SYNC:
        results[ParityResult.ORDER_OVERLAPPED] += unproven
        results[ParityResult.ORDER_BACKFILLED] += backfilled
    elif mode is Mode.BACKFILL:
        results[ParityResult.ORDER_BACKFILLED] += unproven + backfilled
    else:
        results[ParityResult.ORDER_DIFFERS] += unproven + backfilled
    return {result: count for result, count in results.items() if count}


def _mode(copy: Facts, original: Facts, mirrored: float | None) -> Mode:
    """Return the mode that ``copy`` proves: a late sync copy proves no more than an async one."""
    if copy.mode is original.mode is Mode.ORIGINAL:
        return Mode.ASYNC  # two producers' records: either may have come after the answer
    if copy.mode is not Mode.SYNC:
        return copy.mode
    at_once = copy.appended_at - original.appended_at <= SAME_REQUEST
    nobody_else = mirrored is not None and original.appended_at >= mirrored
    return Mode.SYNC if at_once or nobody_else else Mode.ASYNC


def _before(facts: Facts, other: Facts, tolerance: float) -> bool:
    """Return whether ``facts`` was accepted, and so sent, before ``other`` was appended."""
    return facts.accepted_at + tolerance < other.appended_at
