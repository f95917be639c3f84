"""Copy every object of one payload store into another. Nothing is deleted.

Keys are the same in both. An object that the target has in its full length is left alone, so a copy
may be ended at any time and be begun again, and a second one takes what has come since. Each object
is compared with the SHA-256 in its key while it is read, and read back from the target afterwards.

What a sweep set aside is copied as it is: something may need it yet.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from persistence.errors import PersistenceError
from persistence.payload_audit.keys import content_key
from persistence.payload_audit.together import for_each
from persistence.payloads.errors import (
    PayloadCorrupt,
    PayloadMissing,
    PayloadOutage,
    PayloadUnreadable,
)
from persistence.payloads.folder import MARK
from persistence.payloads.reading import check_digest, fetch, verify
from persistence.payloads.store import PayloadObject, PayloadStore
from persistence.payloads.upload import UPLOADING, PayloadUpload
from persistence.timestamps import rfc3339
from transport.backoff import Backoff

__all__ = ["CopyFault", "CopyReport", "TargetInUse", "copy_payloads", "make_ready"]

_IN_MEMORY = 2**20
"""Bytes of an object that is read whole; a longer one passes in pieces."""
_LARGE_AT_ONCE = 2
_PATIENCE = 120.0  # seconds that one object is tried through an outage
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class TargetInUse(PersistenceError):  # noqa: N818 - a state, not a mistake
    """The target has the mark of another store, or objects and no mark.

    Remedy: name an empty folder, or a bucket or prefix that nothing uses.
    """


class CopyFault(msgspec.Struct, frozen=True, rename="camel"):
    """An object that was not copied: it can't be read, or its bytes are not those of its key."""

    key: str
    where: Literal["source", "target"]
    detail: str


class CopyReport(msgspec.Struct, rename="camel"):
    """The objects of the source, counted by outcome."""

    examined: int = 0
    there: int = 0
    """Objects that the target had already."""
    copied: int = 0
    """Objects; with a dry run, those that would be copied."""
    bytes: int = 0
    """Of those."""
    gone: int = 0
    """Objects that a sweep or an erasure took from the source in the meantime."""
    erased: int = 0
    """Objects of erased messages, deleted in the target afterwards."""
    uploads: int = 0
    """Uploads that have not ended. Nothing refers to them; they stay."""
    foreign: int = 0
    """Objects whose key is none of ours. They stay."""
    newest: str | None = None
    """When the source was written last, RFC 3339, UTC."""
    faults: list[CopyFault] = []


async def make_ready(target: PayloadStore, identity: str, *, dry_run: bool = False) -> None:
    """Make the target the same store as the source: one with its identity.

    A store with another mark is not taken over, even without objects: another service may have just
    made it its own. Nor is one that has objects and no mark, whose objects somebody else wrote: a
    sweep would take some of them for ours.

    A dry run leaves ``target.identity`` unset where the target is not ready.

    Raises:
        TargetInUse: as its name says.
        PayloadOutage: the store can't take it now; it may have.
    """
    found, address = await target.mark(), target.settings.payload_store
    if found not in {None, identity}:
        raise TargetInUse(
            f"{address} has the mark of another store: name an empty folder, or a bucket or prefix "
            f"that nothing uses. If nothing uses this one, delete its {MARK}"
        )
    if found is None:
        async for page in target.objects():
            if page:
                raise TargetInUse(
                    f"{address} has objects ({page[0].key}) and no mark of ours: name an empty "
                    "folder, or a bucket or prefix that nothing uses"
                )
        if dry_run:
            return
        await target.make_mark(identity)
    target.identity = identity


async def copy_payloads(
    source: PayloadStore,
    target: PayloadStore,
    *,
    dry_run: bool = False,
    at_once: int = 8,
    patience: float = _PATIENCE,
    noted: Callable[[CopyReport], object] = lambda _: None,
) -> CopyReport:
    """Copy what the target has not.

    Args:
        source: is only read.
        target: was made ready.
        dry_run: write nothing.
        at_once: objects; no more than two of them are large.
        patience: seconds that one object is tried while a store is out.
        noted: called after each object, with a report that is changed later.

    Raises:
        PayloadOutage: one of them can't do it now. What was copied stays.
    """
    copying = _Copying(source, target, dry_run=dry_run, patience=patience)
    async for page in source.objects():
        await for_each(page, lambda found: copying.take(found, noted), at_once=at_once)
    # A disk that was unmounted in between has no objects to list. And of two copies into one target
    # the later one has it.
    for store in (source,) if dry_run else (source, target):
        await store.probe()
    report = copying.report
    report.faults.sort(key=lambda fault: fault.key)
    if copying.newest is not None:
        report.newest = rfc3339(copying.newest)
    return report


class _Copying:
    def __init__(
        self, source: PayloadStore, target: PayloadStore, *, dry_run: bool, patience: float
    ) -> None:
        self._source = source
        self._target = target
        self._dry_run = dry_run
        self._patience = patience
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self.newest: datetime | None = None
        self.report = CopyReport()

    async def take(self, found: PayloadObject, noted: Callable[[CopyReport], object]) -> None:
        """Copy an object of the source, if it is to be copied."""
        report = self.report
        report.examined += 1
        self.newest = max(self.newest or found.modified, found.modified)
        if (match := content_key(found.key)) is not None:
            await self._patiently(found, match[1], match[2])
        elif found.key.startswith(f"{UPLOADING}/"):
            report.uploads += 1
        else:
            report.foreign += 1
        noted(report)

    async def _patiently(self, found: PayloadObject, message_id: str, sha256: str) -> None:
        backoff, until = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE), time.monotonic() + self._patience
        while True:
            try:
                return await self._copy(found, message_id, sha256)
            except PayloadOutage:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(backoff.next())

    async def _copy(self, found: PayloadObject, message_id: str, sha256: str) -> None:
        report = self.report
        if await self._is_there(found):
            report.there += 1
            return
        if not self._dry_run:
            try:
                if found.size <= _IN_MEMORY:
                    data = await fetch(self._source, found.key, found.size, sha256)
                    await self._target.put(found.key, data)
                else:
                    async with self._large:
                        await self._in_pieces(found, message_id, sha256)
            except (PayloadCorrupt, PayloadUnreadable) as error:
                report.faults.append(CopyFault(found.key, "source", str(error)))
                return
            except PayloadMissing:
                report.gone += 1
                return
            try:
                await verify(self._target, found.key, found.size, sha256)
            except (PayloadMissing, PayloadCorrupt) as error:
                report.faults.append(CopyFault(found.key, "target", str(error)))
                return
        report.copied += 1
        report.bytes += found.size

    async def _is_there(self, found: PayloadObject) -> bool:
        if self._target.identity is None:  # it is not ready, so this is a dry run
            return False
        try:
            return (await self._target.head(found.key)).size == found.size
        except PayloadMissing:
            return False

    async def _in_pieces(self, found: PayloadObject, message_id: str, sha256: str) -> None:
        content = await self._source.open(found.key)
        upload, digest = PayloadUpload(self._target, message_id), hashlib.sha256()
        try:
            async for chunk in content.chunks:
                digest.update(chunk)
                await upload.write(chunk)
            check_digest(found.key, digest.hexdigest(), sha256)
            await upload.commit(found.key)
        except BaseException:
            await upload.abandon()
            raise
