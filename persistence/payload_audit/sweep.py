"""Delete from the payload store what nothing refers to.

An upload comes before the append, so a process that ends between the two leaves an object that no
record names; a body that was refused leaves one too. Such an object is deleted only if

* it was last written an hour (``older_than``) before the oldest unread record of any log, so that
  no record which is still to be read can be the one it was uploaded for,
* no unread record and no dead letter is of its message, and no row has its key,
* it is as it was when the store is asked once more: a POST that is sent again writes it anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from persistence.database.pool import Pool, using
from persistence.payload_audit.unread import Unread, unread_in
from persistence.payloads.errors import PayloadMissing
from persistence.payloads.store import PayloadObject, PayloadStore
from persistence.payloads.upload import UPLOADING
from persistence.timestamps import rfc3339
from transport.contract import Transport

__all__ = ["LEAST_AGE", "SweepReport", "sweep"]

LEAST_AGE = timedelta(hours=1)
"""Longer than any request lasts, and than clocks of servers are apart."""
_UPLOADS_END_WITHIN = timedelta(days=1)
_LOOK_AGAIN = 60.0  # seconds after which the logs are read again
_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[0-9a-f]{64}")

_ROWS = "SELECT payload_key FROM messages WHERE id = ANY($1::uuid[]) AND payload_key IS NOT NULL"
# One that was redriven counts until its message is a row: its record may be unread again by now.
_LETTERS = """
SELECT DISTINCT message_id FROM dead_letters
WHERE message_id = ANY($1::uuid[]) AND state <> 'discarded' AND kind <> 'receipt'
"""


class SweepReport(msgspec.Struct, rename="camel"):
    """What was found. ``before``: objects written later are too young, RFC 3339, UTC."""

    before: str
    examined: int = 0
    young: int = 0
    referenced: int = 0
    foreign: int = 0
    """Objects whose key is none of ours. They are left alone."""
    deleted: int = 0
    """Objects that nothing refers to; with a dry run, the ones that would be deleted."""
    uploads: int = 0
    """The same of uploads that did not end."""
    bytes: int = 0
    """Of both."""


async def sweep(
    pool: Pool,
    store: PayloadStore,
    logs: Sequence[Transport],
    *,
    older_than: timedelta = LEAST_AGE,
    dry_run: bool = False,
    noted: Callable[[SweepReport], object] = lambda _: None,
) -> SweepReport:
    """Delete what nothing refers to. It may be ended at any time, and begun again.

    Args:
        pool: of the database with the rows.
        store: the payload store.
        logs: every log that may hold records which are still to become rows.
        older_than: the age that an object needs; never less than ``LEAST_AGE``.
        dry_run: delete nothing.
        noted: called after each page of objects.

    Raises:
        Outage, TransportUnavailable, PayloadOutage: one of them can't tell. Nothing was deleted
            that is still needed.
    """
    sweeping = _Sweep(pool, store, logs, max(older_than, LEAST_AGE), dry_run=dry_run)
    await sweeping.look()
    async for page in store.objects():
        await sweeping.page(page)
        noted(sweeping.report)
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
        self._logs = logs
        self._older_than = older_than
        self._dry_run = dry_run
        self._unread = Unread(set(), 0.0)
        self._looked = 0.0
        self.report = SweepReport("")

    async def look(self) -> None:
        """Read what is unread in the logs; it decides what is too young."""
        self._looked = time.monotonic()
        self._unread = await unread_in(self._logs)
        self._before = datetime.fromtimestamp(self._unread.oldest, UTC) - self._older_than
        self.report.before = rfc3339(self._before)

    async def page(self, objects: Sequence[PayloadObject]) -> None:
        """Judge some objects, and delete those that nothing refers to."""
        report = self.report
        report.examined += len(objects)
        uploads_before = datetime.now(UTC) - max(_UPLOADS_END_WITHIN, self._older_than)
        left = []
        for found in objects:
            if found.key.startswith(f"{UPLOADING}/"):
                if found.modified < uploads_before:
                    left.append(found)
                else:
                    report.young += 1
            elif not _KEY.fullmatch(found.key):
                report.foreign += 1
            elif found.modified >= self._before:
                report.young += 1
            else:
                left.append(found)
        if left and time.monotonic() - self._looked > _LOOK_AGAIN:
            await self.look()
        needed = await self._referenced([found.key for found in left])
        report.referenced += len(needed)
        await self._delete([found for found in left if found.key not in needed])

    async def _referenced(self, keys: Sequence[str]) -> set[str]:
        """Return those of ``keys`` that a row, a dead letter or an unread record needs."""
        messages = {key: match[1] for key in keys if (match := _KEY.fullmatch(key))}
        if not messages:
            return set()
        ids = list(set(messages.values()))
        async with using(self._pool) as connection:
            # Letters first: a message that is redriven goes from them to its row.
            letters = {str(row["message_id"]) for row in await connection.fetch(_LETTERS, ids)}
            rows = {row["payload_key"] for row in await connection.fetch(_ROWS, ids)}
        waiting = letters | self._unread.messages
        return {key for key, message in messages.items() if key in rows or message in waiting}

    async def _delete(self, objects: Sequence[PayloadObject]) -> None:
        unchanged = [found for found in objects if self._dry_run or await self._is_as_it_was(found)]
        self.report.young += len(objects) - len(unchanged)
        if unchanged and not self._dry_run:
            await self._store.delete([found.key for found in unchanged])
        uploads = sum(found.key.startswith(f"{UPLOADING}/") for found in unchanged)
        self.report.uploads += uploads
        self.report.deleted += len(unchanged) - uploads
        self.report.bytes += sum(found.size for found in unchanged)

    async def _is_as_it_was(self, found: PayloadObject) -> bool:
        try:
            return (await self._store.head(found.key)).modified == found.modified
        except PayloadMissing:
            return False
