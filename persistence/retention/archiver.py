"""Archive old rows: planned, written, verified, then deleted; killed anywhere, it goes on.

    plan ──► tombstones ──► the file, read back ──► rows deleted, some at a time
             committed       same name, same rows      with what belongs to them

The tombstones of a file are committed before it is written, and say which rows it has. So a row is
in one file, and a file that is written again has the same rows under the same name: they are
deleted only when the file is verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from otel.metrics import Metrics
from persistence.database.outage import stopped_within
from persistence.database.pool import Connection, Pool, using
from persistence.errors import Outage, PersistenceError, Unexpected
from persistence.fleet.leader_lock import elected
from persistence.fleet.payload_identity import confirm
from persistence.payloads.store import PayloadStore
from persistence.retention.archive_file import (
    ArchiveDamaged,
    FileFacts,
    draft,
    holding,
    verified,
)
from persistence.retention.archives import Archive, ArchiveTable
from persistence.retention.burial import delete_rows, writers_ended
from persistence.retention.metrics import ArchiveMetrics
from persistence.retention.stale_summaries import renew_summaries

__all__ = ["ARCHIVING", "ArchiveReport", "Archiver", "OldRows"]

_log = structlog.get_logger(__name__)

ARCHIVING = "rows archive"
"""The name of the lock that one process holds to archive, or to erase messages from files."""
_HOUR = 3600.0
_FIRST = 90.0
_LOOK = 30.0
_ROWS = 50_000
_AT_ONCE = 1_000
_READ_AT_ONCE = 250  # of up to 64 KiB each, and their receipts
_PAUSE = 0.05


class ArchiveReport(msgspec.Struct):
    """The counts of one archiving pass."""

    rows: int = 0
    files: int = 0
    bytes: int = 0


class Archiver:
    """Archives rows that are older than ``days`` into ``store``.

    Args:
        pool: the database.
        store: where the files go.
        days: the age of the rows.
        rows: how many rows a file has at most.
    """

    def __init__(self, pool: Pool, store: PayloadStore, *, days: int, rows: int = _ROWS) -> None:
        self.table = ArchiveTable(pool)
        self._pool = pool
        self._store = store
        self._days = days
        self._rows = rows

    async def archive(
        self, stop: asyncio.Event, *, before: datetime | None = None
    ) -> ArchiveReport | None:
        """Archive until no row is old enough, or ``stop`` is set; unfinished files come first.

        A pass takes the rows that were old enough when it began. Rows that come of age meanwhile
        are left for the next pass: under load a pass would never end, and would write a file for
        each second's rows.

        Args:
            stop: ends the pass after the file under way.
            before: the moment before which rows are old; by default ``days`` ago.

        Returns:
            The counts of the pass; ``None`` if another process is archiving.

        Raises:
            Outage, PayloadOutage: PostgreSQL or the store can't do it now, or the store is another
                one than that of the first files. Call it again.
            ArchiveDamaged: a file has other bytes than were written. Its rows stay.
        """
        report = ArchiveReport()
        async with elected(self._pool, ARCHIVING) as lock:
            if lock is None:
                return None
            await confirm(self._pool, self._store)
            before = before or await self.table.cutoff(self._days)
            while not stop.is_set():
                for begun in await self.table.of_state("planned", "written"):
                    await self._finish(begun, report, lock)
                if not await self.table.plan(before, self._rows):
                    break
        return report

    async def _finish(self, archive: Archive, report: ArchiveReport, lock: Connection) -> None:
        ids = await self.table.ids(archive.id)
        if archive.state == "planned":
            await writers_ended(self._pool)  # from here on no row and no receipt comes to these
            facts = await self._write(archive, ids, lock)
        else:
            facts = await self._written(archive, ids, lock)
        for chunk in _by(_AT_ONCE, ids):
            async with using(self._pool) as connection, connection.transaction():
                await delete_rows(connection, chunk, archived=True)
            await asyncio.sleep(_PAUSE)
        await self.table.done(archive)
        await renew_summaries(self._pool)
        report.rows += facts.rows
        report.bytes += facts.bytes
        report.files += 1
        _log.info("Rows archived", file=archive.name, rows=facts.rows, bytes=facts.bytes)

    async def _write(self, archive: Archive, ids: Sequence[UUID], lock: Connection) -> FileFacts:
        found = set[UUID]()
        with draft() as file:
            for chunk in _by(_READ_AT_ONCE, ids):
                documents = await self.table.documents(chunk)
                found.update(documents)
                await file.add(list(documents.values()))
            # Over the connection that holds the lock: if it is lost, another process may have
            # written this file and deleted its rows, and the file must not be replaced.
            left = set(await self.table.ids(archive.id, lock=lock)) - found
            if left:
                raise Outage(
                    f"{len(left)} rows of the archive {archive.name} are not there: if no other "
                    "process archives them, restore them or their file"
                )
            facts = await file.store(self._store, archive.name)
        await self.table.written(archive, facts, lock)
        return facts

    async def _written(self, archive: Archive, ids: Sequence[UUID], lock: Connection) -> FileFacts:
        assert archive.bytes is not None
        assert archive.sha256 is not None
        facts = FileFacts(archive.rows, archive.bytes, archive.sha256)
        try:
            await verified(self._store, archive.name, facts)
        except ArchiveDamaged:
            # An erasure that was interrupted rewrote the file, and did not record its facts.
            try:
                facts = await holding(self._store, archive.name, ids)
            except ArchiveDamaged as error:
                raise ArchiveDamaged(f"{error}. Its rows are still in PostgreSQL") from error
            await self.table.written(archive, facts, lock)
        return facts


def _by(number: int, ids: Sequence[UUID]) -> list[Sequence[UUID]]:
    return [ids[at : at + number] for at in range(0, len(ids), number)]


class OldRows:
    """Archives once an hour, in one of all processes. Each reports how long a file waits."""

    def __init__(self, archiver: Archiver, metrics: Metrics, *, interval: float = _HOUR) -> None:
        self._archiver = archiver
        self._metrics = metrics.of(ArchiveMetrics)
        self._interval = interval

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until ``stop`` is set."""
        now = asyncio.get_running_loop().time
        due = now() + min(_FIRST, self._interval)
        while not await stopped_within(stop, min(_LOOK, self._interval)):
            if now() >= due:
                await self._archive(stop)
                due = now() + self._interval
            with suppress(PersistenceError):  # it is told elsewhere
                self._metrics.oldest.set(await self._archiver.table.waits())

    async def _archive(self, stop: asyncio.Event) -> None:
        try:
            report = await self._archiver.archive(stop)
        except Exception as error:  # noqa: BLE001 - the service goes on with a full disk, too
            text = str(error) or type(error).__name__
            is_known = isinstance(error, PersistenceError) and not isinstance(error, Unexpected)
            _log.warning("Archiving old rows failed; will retry", error=text, exc_info=not is_known)
        else:
            self._metrics.archived.inc(report.rows if report else 0)
