"""The log of the reasons why requests failed, with their correlation ids.

Answers do not have the reasons: a reason may name servers, ports, buckets and object keys, which
are for the operator only.
"""

from __future__ import annotations

import time

import structlog

__all__ = ["FailureLog"]

_log = structlog.get_logger(__name__)

_MOST = 10
"""The most lines a second: in an outage every request fails."""


class FailureLog:
    """Logs failures, at most ten a second; each line has the number of those left out before."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def note(self, problem: str, error: Exception, *, path: str, correlation_id: str) -> None:
        """Log a failed request.

        Args:
            problem: The name of the problem that the client got.
            error: The reason.
            path: The request's path.
            correlation_id: The id that the client got.
        """
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= _MOST:
            self._left_out += 1
            return
        self._lines += 1
        _log.warning(
            "Request failed: a server that it depends on failed",
            problem=problem,
            error=str(error) or "no answer in time",
            path=path,
            correlation_id=correlation_id,
            left_out=self._left_out,
        )
        self._left_out = 0
