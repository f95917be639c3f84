"""A file of archived rows: one JSON document a line, gzipped, the same bytes for the same rows."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import msgspec

from persistence.errors import PersistenceError
from persistence.payloads.store import PayloadStore

__all__ = ["ArchiveDamaged", "ArchiveDraft", "FileFacts", "draft", "lines_of", "verified"]

_PART = 8 * 1024 * 1024
_PARTS = 2


class ArchiveDamaged(PersistenceError):  # noqa: N818 - a verdict on one file
    """A file that was just written, or is listed, is not what was written. Its rows stay."""


class FileFacts(msgspec.Struct, frozen=True):
    """A file as it was written: rows, bytes (gzipped) and their SHA-256."""

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

    def add(self, lines: Sequence[str]) -> None:
        """Append documents."""
        for line in lines:
            self._zip.write(line.encode() + b"\n")
        self._rows += len(lines)

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
        yield ArchiveDraft(disk)


async def verified(store: PayloadStore, name: str, facts: FileFacts) -> None:
    """Return if the store has the file as it was written.

    Raises:
        PayloadMissing, PayloadOutage: as their names say.
        ArchiveDamaged: it has other bytes.
    """
    opened = await store.open(name)
    digest, rows, unzip = hashlib.sha256(), 0, zlib.decompressobj(31)
    async for chunk in opened.chunks:
        digest.update(chunk)
        rows += unzip.decompress(chunk).count(b"\n")
    if (digest.hexdigest(), rows) != (facts.sha256, facts.rows):
        raise ArchiveDamaged(
            f"the archive {name} is not what was written: {rows} rows of {facts.rows}. Its rows "
            "are still in PostgreSQL"
        )


async def lines_of(store: PayloadStore, name: str) -> AsyncIterator[list[str]]:
    """Yield the documents of a file, some at a time.

    Raises:
        PayloadMissing, PayloadOutage: as their names say.
    """
    opened = await store.open(name)
    unzip, rest = zlib.decompressobj(31), b""
    async for chunk in opened.chunks:
        *whole, rest = (rest + unzip.decompress(chunk)).split(b"\n")
        yield [line.decode() for line in whole]
