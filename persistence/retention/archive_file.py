"""A file of archived rows: one JSON document a line, gzipped, the same bytes for the same rows."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO
from uuid import UUID

import msgspec

from persistence.errors import PersistenceError
from persistence.payloads.store import PayloadStore

__all__ = [
    "ArchiveDamaged",
    "ArchiveDraft",
    "FileFacts",
    "draft",
    "holding",
    "id_of",
    "lines_of",
    "verified",
]

_PART = 8 * 1024 * 1024
_PARTS = 2


class ArchiveDamaged(PersistenceError):  # noqa: N818 - a verdict on one file
    """A file, just written or listed, has other bytes than were written. Its rows stay."""


class FileFacts(msgspec.Struct, frozen=True):
    """The facts of a written file: its rows, its bytes (gzipped) and their SHA-256."""

    rows: int
    bytes: int
    sha256: str


class ArchiveDraft:
    """A file that is being written, on this machine's disk until ``store`` sends it."""

    def __init__(self, disk: IO[bytes]) -> None:
        self._disk = disk
        # Without a name and a time in its head, the same rows make the same bytes.
        self._zip = gzip.GzipFile("", "wb", 6, disk, mtime=0)
        self._rows = 0

    async def add(self, lines: Sequence[str]) -> None:
        """Append documents. Another thread compresses them, because large ones take long."""
        await asyncio.to_thread(self._pack, lines)
        self._rows += len(lines)

    def _pack(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._zip.write(line.encode() + b"\n")

    def end(self) -> None:
        """Write no more: Python 3.13 writes buffered bytes when it collects this as garbage."""
        with suppress(OSError):
            self._zip.close()

    async def store(self, to: PayloadStore, name: str) -> FileFacts:
        """Send the file to the store, and read it back.

        Raises:
            PayloadOutage: the store can't take it now; it may have.
            ArchiveDamaged: it has other bytes than were sent.
        """
        self._zip.close()
        size, digest = self._disk.tell(), hashlib.sha256()
        self._disk.seek(0)
        async with to.call("put", name, size):
            await to.usable()
            async with to.writer(name, part_bytes=_PART, parts=_PARTS) as writer:
                while chunk := self._disk.read(_PART):
                    digest.update(chunk)
                    await writer.write(chunk)
            await to.flush(name)
        facts = FileFacts(self._rows, size, digest.hexdigest())
        await verified(to, name, facts)
        return facts


@contextmanager
def draft() -> Iterator[ArchiveDraft]:
    """Begin a file. It is gone from this machine's disk when the block ends."""
    with tempfile.TemporaryFile() as disk:
        made = ArchiveDraft(disk)
        try:
            yield made
        finally:
            made.end()


async def verified(store: PayloadStore, name: str, facts: FileFacts) -> None:
    """Check that the store has the file as it was written.

    Raises:
        PayloadMissing, PayloadOutage: as their names say.
        ArchiveDamaged: the file has other bytes.
    """
    found, rows = _Facts(), 0
    async for lines in lines_of(store, name, read=found.add):
        rows += len(lines)
    if found.facts(rows) != facts:
        raise ArchiveDamaged(f"the archive {name} is not what was written: see what replaced it")


async def holding(store: PayloadStore, name: str, ids: Collection[UUID]) -> FileFacts:
    """Return the facts of a file, if it is whole and has the messages ``ids``.

    Raises:
        PayloadMissing, PayloadOutage: as their names say.
        ArchiveDamaged: it is not whole, or lacks some of the messages.
    """
    found, rows, left = _Facts(), 0, set(ids)
    async for lines in lines_of(store, name, read=found.add):
        rows += len(lines)
        left.difference_update(map(id_of, lines))
    if left:
        raise ArchiveDamaged(f"the archive {name} lacks {len(left)} messages: see what replaced it")
    return found.facts(rows)


async def lines_of(
    store: PayloadStore, name: str, *, read: Callable[[bytes], object] = lambda _: None
) -> AsyncIterator[list[str]]:
    """Yield the documents of a file, some at a time; raise at the end if it was not whole.

    Args:
        store: the store with the file.
        name: the file's name.
        read: called with the file's bytes as they come.

    Raises:
        PayloadMissing, PayloadOutage: as their names say.
        ArchiveDamaged: the file is cut short, or is not an archive.
    """
    opened = await store.open(name)
    unzip, rest = zlib.decompressobj(31), b""
    async for chunk in opened.chunks:
        read(chunk)
        try:
            *whole, rest = (rest + unzip.decompress(chunk)).split(b"\n")
        except zlib.error as error:
            raise ArchiveDamaged(f"the archive {name} can't be unpacked: {error}") from error
        yield [line.decode() for line in whole]
    if not unzip.eof or unzip.unused_data or rest:  # its own checksum was right if it has ended
        raise ArchiveDamaged(f"the archive {name} is not whole: see what replaced it")


def id_of(line: str) -> UUID:
    """Return the id of the message in a document."""
    return UUID(msgspec.json.decode(line, type=_Named).id)


class _Named(msgspec.Struct):
    id: str


class _Facts:
    """Facts of a file, from its bytes as they come."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._bytes = 0

    def add(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._bytes += len(chunk)

    def facts(self, rows: int) -> FileFacts:
        return FileFacts(rows, self._bytes, self._digest.hexdigest())
