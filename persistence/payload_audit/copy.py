"""Copy every object of one payload store into another. Nothing is deleted.

Keys are the same in both. An object that the target has in its full length is not copied again. So
a copy may be ended and restarted at any time, and a second one copies the objects that have come
since. Each object is compared with the SHA-256 in its key while it is read, and read back from the
target afterwards.

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
from persistence.payload_audit.concurrency import for_each
from persistence.payload_audit.keys import content_key
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
"""An object of up to this many bytes is read whole; a longer one is copied in pieces."""
_LARGE_AT_ONCE = 2
_PATIENCE = 120.0  # seconds for which one object is retried during an outage
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class TargetInUse(PersistenceError):  # noqa: N818 - a state, not a mistake
    """The target has the mark of another store, or objects and no mark.

    Remedy: name an empty folder, or a bucket or prefix that nothing uses.
    """


class CopyFault(msgspec.Struct, frozen=True, rename="camel"):
    """An object that was not copied: it can't be read, or its bytes don't match its key."""

    key: str
    where: Literal["source", "target"]
    detail: str


class CopyReport(msgspec.Struct, rename="camel"):
    """The objects of the source, counted by outcome."""

    examined: int = 0
    there: int = 0
    """Objects that the target had already."""
    copied: int = 0
    """Objects copied; with a dry run, those that would be copied."""
    bytes: int = 0
    """Bytes of the copied objects."""
    gone: int = 0
    """Objects that a sweep or an erasure removed from the source meanwhile."""
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
    """Give the target the identity of the source, so that it is the same store.

    A store with another mark is refused, even without objects: another service may have just
    started to use it. A store with objects and without a mark is refused too, because somebody else
    wrote them: a sweep would take some of them for ours.

    A dry run leaves ``target.identity`` unset if the target is not ready.

    Raises:
        TargetInUse: the target is another store, or has objects and no mark.
        PayloadOutage: the store can't do it now; it may have happened.
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
    """Copy the objects that the target lacks.

    Args:
        source: the store to read; nothing is written to it.
        target: the store to write, after ``make_ready``.
        dry_run: whether to write nothing.
        at_once: how many objects to copy at once; at most two of them are large.
        patience: seconds for which one object is retried while a store is out.
        noted: called after each object, with a report that is changed later.

    Raises:
        PayloadOutage: a store can't do it now. Copied objects stay.
    """
    copying = _Copying(source, target, dry_run=dry_run, patience=patience)
    async for page in source.objects():
        await for_each(page, lambda found: copying.take(found, noted), at_once=at_once)
    # A disk that was unmounted meanwhile has no objects to list. And of two copies into one target,
    # the later one owns it.
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
        """Copy an object of the source, if the target lacks it."""
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
