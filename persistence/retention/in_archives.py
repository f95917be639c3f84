"""Find and remove a subject's messages in the files of archived rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from persistence.database.pool import Connection, Pool
from persistence.fleet.payload_identity import confirm
from persistence.payloads.errors import PayloadOutage
from persistence.payloads.store import PayloadStore
from persistence.retention.archive_file import ArchiveDamaged, draft, lines_of
from persistence.retention.archives import Archive, ArchiveTable
from persistence.retention.burial import Doomed
from persistence.retention.subject import Subject

__all__ = ["ErasedFromArchives"]

_COLUMN = {"sender": "sender_id", "conversation": "conversation_id"}


class ErasedFromArchives:
    """Reads every file, because only the files tell whose messages they have.

    A file that is only planned is written later, without messages that are erased by then. A file
    that a crash left under its name is removed. Hold the archiver's lock for every call.
    """

    def __init__(self, pool: Pool, store: PayloadStore | None, subject: Subject) -> None:
        self._table = ArchiveTable(pool)
        self._pool = pool
        self._store = store
        self._subject = subject
        self._found: dict[int, dict[UUID, Doomed]] = {}

    async def next(self, after: int) -> Archive | None:
        """Return the file after ``after``.

        Raises:
            PayloadOutage: there is one, but this process has no store of archived rows, or another
                one.
        """
        found = await self._table.of_state("planned", "written", "done", after=after, limit=1)
        if found and self._store is None:
            raise PayloadOutage(
                "rows were archived: set ROWS_ARCHIVE_URL, as the service has it, and run this "
                "again"
            )
        if found and self._store is not None:
            await confirm(self._pool, self._store)
        return found[0] if found else None

    async def unlisted(self) -> int:
        """Return how many files of the store the table does not know.

        They were written after the moment to which PostgreSQL was restored or failed over.
        """
        if self._store is None:
            return 0
        count = 0
        async for page in self._store.objects("messages"):
            names = [stored.key for stored in page if stored.key.endswith(".jsonl.gz")]
            count += len(await self._table.unlisted(names))
        return count

    async def find(self, archive: Archive) -> list[Doomed]:
        """Return the subject's messages in a file, and those that were found there before.

        A file that was written anew no longer tells whose messages they were. But PostgreSQL may
        have lost their tombstones since.

        Raises:
            PayloadMissing, PayloadOutage: as their names say.
            ArchiveDamaged: the file has other bytes than were written.
        """
        assert self._store is not None
        if archive.state == "planned":
            await self._store.delete([archive.name])
            return []
        doomed = self._found.setdefault(archive.id, {})
        async for lines in lines_of(self._store, archive.name):
            for row in map(_row, lines):
                if self._is_of_subject(row):
                    at = datetime.fromisoformat(row["accepted_at"])
                    found = Doomed(UUID(row["id"]), at, row["payload_key"])
                    doomed[found.id] = found
        return list(doomed.values())

    async def take_out(self, archive: Archive, doomed: Sequence[Doomed], lock: Connection) -> None:
        """Rewrite the file, under its name, without the subject's messages, which are marked.

        ``lock`` is the connection that holds the archiver's lock.

        ``doomed`` is empty if an attempt that was interrupted took them out: it may not have
        recorded the file's facts.

        Raises:
            PayloadMissing, PayloadOutage: as their names say.
            ArchiveDamaged: it lacks messages of others. It was left unchanged.
        """
        assert self._store is not None
        left = set(await self._table.ids(archive.id))
        with draft() as file:
            async for lines in lines_of(self._store, archive.name):
                kept = [(line, row) for line in lines if not self._is_of_subject(row := _row(line))]
                await file.add([line for line, _ in kept])
                left.difference_update(UUID(row["id"]) for _, row in kept)
            if left:
                raise ArchiveDamaged(
                    f"the archive {archive.name} lacks {len(left)} messages, and was left as it "
                    "is: put back the bucket's version that has them, and run this again"
                )
            facts = await file.store(self._store, archive.name)
        await self._table.written(archive, facts, lock, state=archive.state)
        await self._table.took_out([row.id for row in doomed])

    def _is_of_subject(self, row: dict[str, Any]) -> bool:
        return bool(row[_COLUMN[self._subject.kind]] == self._subject.value)


def _row(line: str) -> dict[str, Any]:
    return msgspec.json.decode(line, type=dict[str, Any])
