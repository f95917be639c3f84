"""Delete objects from the payload store to which nothing refers.

An upload comes before the append. So a process that ends between the two leaves an object that no
record names, and so does a body that was refused. Such an object is deleted only if

* it was last written an hour (``older_than``) before the oldest unread record of any log, so it
  can't belong to a record that is still to be read,
* no row and no record of any log, read or unread, has its key, and neither a dead letter nor an
  archived row is of its message; or its message was erased, and has no row.

A POST that is sent again at that moment may still need the object. So it is first set aside under
``doomed/``, and deleted by a sweep an hour later or more. Until then, each sweep checks again at
its beginning and its end, and puts back objects to which something refers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from persistence.database.pool import Connection, Pool, using
from persistence.database.translation import translated
from persistence.errors import PersistenceError
from persistence.fleet.leader_lock import elected
from persistence.payload_audit.concurrency import for_each
from persistence.payload_audit.keys import DOOMED, DOOMED_KEY, KEY
from persistence.payload_audit.log_references import LogReferences
from persistence.payloads.errors import PayloadMissing
from persistence.payloads.store import PayloadObject, PayloadStore
from persistence.payloads.upload import UPLOADING
from persistence.timestamps import rfc3339
from transport.contract import Transport

__all__ = ["DOOMED", "LEAST_AGE", "SweepReport", "SweepUnderWay", "TooMuchToSweep", "sweep"]

LEAST_AGE = timedelta(hours=1)
"""Longer than any request lasts, and than the clocks of servers differ."""
_UPLOADS_END_WITHIN = timedelta(days=1)
_REQUESTS_END_WITHIN = 30.0  # seconds from an upload to its append: nearly all of them
_MANY, _MUCH = 100, 0.1
_PAGE = 500
_LOCK = "payload sweep"

_ROWS = "SELECT payload_key FROM messages WHERE id = ANY($1::uuid[]) AND payload_key IS NOT NULL"
# A redriven letter counts until its message is a row: its record may be unread again. The file of
# an archived row names its payload, which stays in the store.
_BURIED = "SELECT id, erased_at FROM tombstones WHERE id = ANY($1::uuid[])"
_LETTERS = """
SELECT DISTINCT message_id FROM dead_letters
WHERE message_id = ANY($1::uuid[]) AND state <> 'discarded' AND kind <> 'receipt'
"""


class TooMuchToSweep(PersistenceError):  # noqa: N818 - a state, not a mistake
    """A sweep would delete so much that a wrong database, log or store is likely; it did nothing.

    Remedy: compare the settings with the service's, and then allow it.
    """


class SweepUnderWay(PersistenceError):  # noqa: N818 - a state, not a mistake
    """Another sweep of this database's payloads is under way.

    Two at once could lose content: one puts an object back, and removes its copy under ``doomed/``,
    while the other one is about to remove the object itself.

    Remedy: wait for its end.
    """


class SweepReport(msgspec.Struct, rename="camel"):
    """Objects by finding. ``before``: those written later are too young, RFC 3339, UTC."""

    before: str = ""
    examined: int = 0
    young: int = 0
    referenced: int = 0
    foreign: int = 0
    """Objects whose key is none of ours. They are left alone."""
    set_aside: int = 0
    """Objects that nothing refers to; with a dry run, the ones that would be set aside."""
    put_back: int = 0
    """Objects that were set aside, and that something refers to now."""
    deleted: int = 0
    """Objects that an earlier sweep set aside."""
    uploads: int = 0
    """Uploads that did not end, and are deleted at once."""
    bytes: int = 0
    """Bytes of the objects set aside, and of the uploads."""


async def sweep(
    pool: Pool,
    store: PayloadStore,
    logs: Sequence[Transport],
    *,
    older_than: timedelta = LEAST_AGE,
    dry_run: bool = False,
    allow_many: bool = False,
    last_look_after: float = _REQUESTS_END_WITHIN,
    noted: Callable[[SweepReport], object] = lambda _: None,
) -> SweepReport:
    """Set aside objects without a reference; delete those set aside before. It can be restarted.

    Args:
        pool: the database with the rows.
        store: the payload store.
        logs: every log that may hold records of this database.
        older_than: the age that an object needs; never less than ``LEAST_AGE``.
        dry_run: whether to change nothing.
        allow_many: whether to go on if more than a tenth of the objects would go.
        last_look_after: seconds between setting the last object aside and the last check.
        noted: called after each page of objects.

    Raises:
        Outage, TransportUnavailable, PayloadOutage: a server can't answer. No needed object was
            deleted.
        SweepUnderWay: another sweep is under way; this one did nothing.
        TooMuchToSweep: it would delete more than is plausible, and did nothing.
    """
    sweeping = _Sweep(pool, store, logs, max(older_than, LEAST_AGE), dry_run=dry_run)
    if dry_run:
        await sweeping.find(noted)
        return sweeping.report
    async with elected(pool, _LOCK) as lock:
        if lock is None:
            raise SweepUnderWay("another sweep is under way: this one did nothing; run it later")
        sweeping.lock = lock
        await sweeping.find(noted)
        sweeping.check_plausible(allow_many=allow_many)
        await sweeping.clear()
        if sweeping.report.set_aside:
            await asyncio.sleep(last_look_after)
            await sweeping.revise()
    return sweeping.report


class _Sweep:
    def __init__(
        self,
        pool: Pool,
        store: PayloadStore,
        logs: Sequence[Transport],
        older_than: timedelta,
        *,
        dry_run: bool,
    ) -> None:
        self._pool = pool
        self._store = store
        self._references = LogReferences(pool, logs)
        self._older_than = older_than
        self._dry_run = dry_run
        self._orphans: list[PayloadObject] = []
        self._uploads: list[PayloadObject] = []
        self.lock: Connection | None = None
        """The connection that holds the lock. If it is lost, another sweep may be under way."""
        self.report = SweepReport()

    async def find(self, noted: Callable[[SweepReport], object]) -> None:
        """Revise what was set aside earlier, then choose the objects that have to go."""
        await self.revise()
        async for page in self._store.objects():
            await self._judge(page)
            noted(self.report)

    def check_plausible(self, *, allow_many: bool) -> None:
        """Check that no more was chosen than is usual.

        Raises:
            TooMuchToSweep: it was.
        """
        report = self.report
        ours = report.set_aside + report.referenced + report.young
        if report.set_aside > max(_MANY, _MUCH * ours) and not allow_many:
            raise TooMuchToSweep(
                f"nothing refers to {report.set_aside:,} of {ours:,} objects, and that is more "
                "than usual: nothing was deleted. Do DATABASE_URL, the logs and PAYLOAD_STORE "
                "belong together? --dry-run tells more, --allow-many goes on"
            )

    async def revise(self) -> None:
        """Put back objects that are needed after all; delete the others after an hour."""
        await self._references.look()
        due = time.time() - LEAST_AGE.total_seconds()
        async for page in self._store.objects(DOOMED):
            found = [match for stored in page if (match := DOOMED_KEY.fullmatch(stored.key))]
            needed = await self._referenced([match[2] for match in found])
            back = [match for match in found if match[2] in needed]
            gone = [match for match in found if match[2] not in needed and int(match[1]) < due]
            self.report.put_back += len(back)
            self.report.deleted += len(gone)
            if not self._dry_run:
                await for_each(back, self._put_back)
                await for_each(gone, lambda match: self._store.delete([match[0]]))

    async def _judge(self, objects: Sequence[PayloadObject]) -> None:
        """Decide which objects have to go."""
        report = self.report
        before = datetime.fromtimestamp(self._references.oldest, UTC) - self._older_than
        uploads_before = datetime.now(UTC) - max(_UPLOADS_END_WITHIN, self._older_than)
        report.before = rfc3339(before)
        old = []
        for found in objects:
            if found.key.startswith(f"{DOOMED}/"):
                continue
            report.examined += 1
            if found.key.startswith(f"{UPLOADING}/"):
                if found.modified < uploads_before:
                    self._add(found, self._uploads)
                else:
                    report.young += 1
            elif not KEY.fullmatch(found.key):
                report.foreign += 1
            elif found.modified >= before:
                report.young += 1
            else:
                old.append(found)
        needed = await self._referenced([found.key for found in old])
        report.referenced += len(needed)
        for found in old:
            if found.key not in needed:
                self._add(found, self._orphans)

    def _add(self, found: PayloadObject, to: list[PayloadObject]) -> None:
        to.append(found)
        self.report.set_aside, self.report.uploads = len(self._orphans), len(self._uploads)
        self.report.bytes += found.size

    async def clear(self) -> None:
        """Set aside the chosen objects, page by page, each page after a new check."""
        await for_each(self._uploads, self._end_upload)
        unfinished = datetime.now(UTC) - max(_UPLOADS_END_WITHIN, self._older_than)
        self.report.uploads += await self._store.remove_unfinished(unfinished)
        everything = list(self._orphans)
        for start in range(0, len(everything), _PAGE):
            page = everything[start : start + _PAGE]
            await self._references.look()
            needed = await self._referenced([found.key for found in page])
            kept = [found for found in page if found.key in needed]
            self._keep(kept)
            self.report.referenced += len(kept)
            await for_each((found for found in page if found.key not in needed), self._set_aside)

    async def _referenced(self, keys: Iterable[str]) -> set[str]:
        """Return the keys among ``keys`` that a row, a dead letter or a record needs."""
        messages = {key: match[1] for key in keys if (match := KEY.fullmatch(key))}
        if not messages:
            return set()
        ids = list(set(messages.values()))
        async with self._database() as connection:
            # Letters first: a redriven message moves from them to its row.
            letters = {str(row["message_id"]) for row in await connection.fetch(_LETTERS, ids)}
            rows = {row["payload_key"] for row in await connection.fetch(_ROWS, ids)}
            # After rows: a message that is archived meanwhile moves from its row to its tombstone.
            buried = {str(row["id"]): row for row in await connection.fetch(_BURIED, ids)}
        # Workers drop the records that name an erased message, so only its row needs the content.
        erased = {message for message, row in buried.items() if row["erased_at"]}
        return {
            key
            for key, message in messages.items()
            if key in rows
            or (
                message not in erased
                and (
                    message in letters or message in buried or self._references.needs(key, message)
                )
            )
        }

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Connection]:
        if self.lock is not None:
            with translated():
                yield self.lock
            return
        async with using(self._pool) as connection:
            yield connection

    async def _set_aside(self, found: PayloadObject) -> None:
        if not await self._is_as_it_was(found):
            self._keep([found])
            self.report.young += 1
            return
        try:
            aside = f"{DOOMED}/{int(time.time())}/{found.key}"
            await self._store.move(found.key, aside, found.size)
        except PayloadMissing:  # an erasure took it meanwhile, or it is in an archive class
            self._keep([found])

    def _keep(self, kept: Sequence[PayloadObject]) -> None:
        self.report.set_aside -= len(kept)
        self.report.bytes -= sum(found.size for found in kept)

    async def _end_upload(self, found: PayloadObject) -> None:
        if await self._is_as_it_was(found):
            await self._store.delete([found.key])

    async def _put_back(self, match: re.Match[str]) -> None:
        """Move an object back to its own key, unless it was written anew meanwhile."""
        try:
            await self._store.head(match[2])
        except PayloadMissing:
            size = (await self._store.head(match[0])).size
            await self._store.move(match[0], match[2], size)
        else:
            await self._store.delete([match[0]])

    async def _is_as_it_was(self, found: PayloadObject) -> bool:
        try:
            return (await self._store.head(found.key)).modified == found.modified
        except PayloadMissing:
            return False
