"""Appended records that are not what comes next yet: other records stand before them.

A claim keeps them until it has got there, within bounds. What it forgets it reads from the log.
"""

from __future__ import annotations

from transport.redis.append.own_appends import Run

__all__ = ["KeptBytes", "KeptRuns"]

_MOST_OF_A_CLAIM = 256 << 10
# Of all claims of a process: some 5,000 small records, half a second of what one can append. What
# is kept longer waits for a database that is down, and then the log is where it should wait.
_MOST = 8 << 20


class KeptBytes:
    """How many bytes the claims of one process keep together."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def are_too_many(self) -> bool:
        """Whether something has to be forgotten."""
        return self.count > _MOST


class KeptRuns:
    """Runs that one claim keeps."""

    def __init__(self, together: KeptBytes) -> None:
        self._together = together
        self._runs: dict[str, Run] = {}
        self._size = 0

    @property
    def any(self) -> bool:
        """Whether any run is kept."""
        return bool(self._runs)

    def keep(self, run: Run) -> None:
        """Keep a run; forget all of this claim where they, or all claims', become too large."""
        self.after(run.before)
        self._runs[run.before] = run
        self._grow(run.size)
        if self._size > _MOST_OF_A_CLAIM or self._together.are_too_many:
            self.forget()

    def after(self, offset: str) -> Run | None:
        """Return the run right after the record at ``offset``, if there is one, and forget it."""
        run = self._runs.pop(offset, None)
        if run is not None:
            self._grow(-run.size)
        return run

    def read(self, offset: str) -> None:
        """Forget what is not after the record at ``offset``."""
        kept = [rest for run in self._runs.values() if (rest := run.after(offset))]
        self.forget()
        self._runs = {run.before: run for run in kept}
        self._grow(sum(run.size for run in kept))

    def forget(self) -> None:
        """Forget all."""
        self._runs.clear()
        self._grow(-self._size)

    def _grow(self, size: int) -> None:
        self._size += size
        self._together.count += size
