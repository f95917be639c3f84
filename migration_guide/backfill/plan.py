"""Records missing in a log, found by comparison: offsets by partition, in a temporary file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Self

from migration_guide.parity.check import drain, starts
from migration_guide.parity.comparison import PRIMARY, Comparison, ParityLimits
from migration_guide.parity.reading import NOWHERE, Beginning, Merged
from migration_guide.parity.result import ParityResult
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.progress import progress_everywhere

__all__ = ["Plan", "find_missing"]

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE missing (partition INT, place BLOB, off TEXT, PRIMARY KEY (partition, place))
WITHOUT ROWID;
"""

Examined = Callable[[int], None]


class Plan:
    """The offsets to copy. A context manager; closed, its file is gone."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self.total = 0
        self.uncopied = 0
        """Older than what the target holds, and acknowledged in the source: left alone."""
        self.held: dict[int, bytes] = {}
        """By the source's partition, the place from which on it was examined."""
        self.whole = False
        """Everything that the source holds was examined."""
        self.until = 0.0
        """Everything that was appended before this time was examined."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def add(self, partition: int, place: bytes, offset: str) -> None:
        """Note a record that is missing."""
        self._db.execute("INSERT INTO missing VALUES (?, ?, ?)", (partition, place, offset))
        self.total += 1

    def after(self, partition: int, place: bytes, limit: int) -> list[tuple[bytes, str]]:
        """Return the next places and offsets of a partition, in the order of the log."""
        return self._db.execute(
            "SELECT place, off FROM missing WHERE partition = ? AND place > ?"
            " ORDER BY place LIMIT ?",
            (partition, place, limit),
        ).fetchall()


async def find_missing(
    source: Transport,
    target: Transport,
    plan: Plan,
    *,
    since: float | None,
    limits: ParityLimits,
    cursor: Mapping[str, str],
    everything: bool = False,
    examined: Examined | None = None,
) -> None:
    """Fill ``plan`` with the originals of ``source`` that ``target`` lacks.

    Originals younger than ``limits.settle`` seconds are left to the live shadow. An original that
    is older than all records of the target may have been trimmed there. It is added if the
    source's workers have not acknowledged it, or if the target never trimmed a record.

    Args:
        source: The log to copy from.
        target: The log to copy into.
        plan: Gets the offsets.
        since: Look at originals from this time on, in seconds since the epoch; ``None``: at all.
        limits: Of the comparison.
        cursor: The offset in each partition through which an earlier run was done.
        everything: Add originals that may have been trimmed in any case.
        examined: Called with numbers of records as they are read.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    plan.until = time.time() - limits.settle
    plan.whole = since is None
    progress = await progress_everywhere(source, Topic.MESSAGES, group=WORKER_GROUP)
    floors = [source.sort_key(part.floor) if part.floor else b"" for part in progress]
    # Where records were lost, offsets below a cursor may be those of records that came later.
    cursor = {at: of for at, of in cursor.items() if not progress[int(at)].lost}
    for cell, ours, theirs in await starts(source, target, since=since):
        number = cell.primary
        begin = _later(source, ours, cursor.get(str(number)))
        comparison = Comparison(
            cell,
            limits,
            since=since or 0.0,
            until=plan.until,
            held_from=(begin.held_from, theirs.held_from),
            first_held=(begin.first_held, theirs.first_held),
            read_after=(begin.read_after, theirs.read_after),
        )
        merged = Merged((source, target), cell, (begin.after, theirs.after))
        try:
            await drain(comparison, merged, progress=examined)
            wanted = everything or theirs.untrimmed
            for facts in comparison.judged(PRIMARY):
                missing = facts.judged is ParityResult.MISSING_IN_SHADOW
                if missing or wanted or facts.place > floors[number]:
                    plan.add(number, facts.place, facts.offset)
                else:
                    plan.uncopied += 1
        finally:
            comparison.close()
        plan.held[number] = max(ours.first_held, ours.read_after) or NOWHERE


def _later(log: Transport, begin: Beginning, cursor: str | None) -> Beginning:
    if cursor is None:
        return begin
    place = log.sort_key(cursor)
    return begin._replace(after=cursor, read_after=place) if place > begin.read_after else begin
