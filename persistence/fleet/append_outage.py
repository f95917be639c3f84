"""Watch whether the primary accepts appends: it may answer reads and refuse appends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from persistence.json_types import Time
from transport.clock import timestamp
from transport.contract import Envelope, Outcome
from transport.errors import AppendUnknown, TransportUnavailable
from transport.outage_watch import OutageWatch

__all__ = ["AppendOutage", "AppendWatch"]

_OUTAGES = (TransportUnavailable, AppendUnknown)
"""Not an error of the record: a log that refuses a bad record works."""


class AppendOutage(msgspec.Struct, frozen=True):
    """An outage of one process's appends to the log ``log`` that is not over."""

    log: str
    since: Time
    last: Time
    """When an append, or the readiness probe, last failed."""
    error: str
    """The last error."""
    untried: float | None = None
    """Seconds from ``last`` to the report, by the process's own clock: another's may be wrong. A
    process of the previous release does not say."""


class AppendWatch:
    """Watches a process's appends to its primary ``name``. An ``AppendObserver``.

    Args:
        name: the log's.
        clock: returns seconds that never go back.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._outages = OutageWatch(clock)
        self._error = ""

    def published(
        self,
        envelopes: Sequence[Envelope],  # noqa: ARG002 - the observer's
        outcomes: Sequence[Outcome],
        began: int,  # noqa: ARG002 - the observer's
    ) -> None:
        """Record whether the log accepts appends."""
        failure = next((it for it in outcomes if isinstance(it, _OUTAGES)), None)
        if outcomes:
            self.tried(str(failure) if failure is not None else None)

    def interrupted(self, envelopes: Sequence[Envelope], error: BaseException, began: int) -> None:
        """Record nothing: it is not known whether the log refused anything."""

    def tried(self, error: str | None) -> None:
        """Record that the log accepted a write, or the error with which it refused one."""
        if error is None:
            self._outages.succeeded()
        else:
            self._error = error
            self._outages.failed()

    def outage(self) -> AppendOutage | None:
        """Return the outage that is under way, if any."""
        ongoing = self._outages.ongoing()
        if ongoing is None:
            return None
        offset = time.time() - self._clock()
        began, last = (timestamp(moment + offset) for moment in ongoing)
        untried = max(0.0, self._clock() - ongoing[1])
        return AppendOutage(self._name, began, last, self._error, untried)
