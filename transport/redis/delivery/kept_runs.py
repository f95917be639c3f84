"""Appended records that a claim keeps in memory, because other records come before them.

The claim hands them over when it gets there. Their size is bounded; records that are dropped are
read from the log.
"""

from __future__ import annotations

from transport.redis.append.own_appends import Run

__all__ = ["KeptBytes", "KeptRuns"]

_MOST_OF_A_CLAIM = 256 << 10
# For all claims of a process together: some 5,000 small records, as many as one process appends in
# half a second. Records that are kept longer wait for a database that is down; the log is the place
# for that.
_MOST = 8 << 20


class KeptBytes:
    """The number of bytes that all claims of one process keep."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def are_too_many(self) -> bool:
        """Whether some records have to be dropped."""
        return self.count > _MOST


class KeptRuns:
    """The runs that one claim keeps."""

    def __init__(self, together: KeptBytes) -> None:
        self._together = together
        self._runs: dict[str, Run] = {}
        self._size = 0

    @property
    def any(self) -> bool:
        """Whether any run is kept."""
        return bool(self._runs)

    def keep(self, run: Run) -> None:
        """Keep a run; drop all runs of this claim if its bytes, or those of all, are too many."""
        self.pop_after(run.before)
        self._runs[run.before] = run
        self._grow(run.size)
        if self._size > _MOST_OF_A_CLAIM or self._together.are_too_many:
            self.forget()

    def pop_after(self, offset: str) -> Run | None:
        """Remove and return the run right after the record at ``offset``, if there is one."""
        run = self._runs.pop(offset, None)
        if run is not None:
            self._grow(-run.size)
        return run

    def drop_through(self, offset: str) -> None:
        """Drop the records up to ``offset``, which were read."""
        kept = [rest for run in self._runs.values() if (rest := run.after(offset))]
        self.forget()
        self._runs = {run.before: run for run in kept}
        self._grow(sum(run.size for run in kept))

    def forget(self) -> None:
        """Drop all runs."""
        self._runs.clear()
        self._grow(-self._size)

    def _grow(self, size: int) -> None:
        self._size += size
        self._together.count += size
