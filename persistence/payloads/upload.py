"""An upload of content into the store, in pieces, with some megabytes of it in memory."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

from persistence.payloads.errors import PayloadError
from persistence.payloads.store import PayloadStore

__all__ = ["UPLOADING", "PayloadUpload"]

UPLOADING = "uploading"
"""The prefix of uploads that are under way and have no final key yet."""

_PART_BYTES = 5 * 2**20  # S3 accepts no smaller one, except the last
_PARTS_AT_ONCE = 2
_IN_MEMORY = _PARTS_AT_ONCE * _PART_BYTES


class PayloadUpload:
    """An upload: ``write`` the content, then ``commit`` or ``abandon`` it.

    The key contains the content's digest, so the content is first written under a temporary key,
    and the store copies it. Uploads that a crash ended stay under ``uploading``.
    """

    def __init__(self, store: PayloadStore, message_id: str) -> None:
        self._store = store
        self._source = f"{UPLOADING}/{message_id}/{secrets.token_hex(8)}"
        self._writer = store.writer(self._source, part_bytes=_PART_BYTES, parts=_PARTS_AT_ONCE)
        self.began = time.time_ns()
        """Nanoseconds since the epoch."""
        self.size = 0
        """The number of bytes so far."""

    async def write(self, data: bytes) -> None:
        """Take more content; waits while the store is behind.

        Raises:
            PayloadOutage: the store can't take it now.
        """
        first = self.size == 0
        self.size += len(data)
        async with self._store.call("put", self._source, _IN_MEMORY, counted=False):
            if first:
                await self._store.usable()
            await self._writer.write(data)

    async def commit(self, key: str) -> None:
        """Make the content durable under ``key``.

        Raises:
            PayloadOutage: the store can't take it now.
        """
        async with self._store.call("put", self._source, _IN_MEMORY, counted=False):
            await self._writer.close()
        await self._store.move(self._source, key, self.size)

    async def abandon(self) -> None:
        """Remove the written parts, as far as the store permits."""
        with suppress(PayloadError):
            # A store keeps the hidden parts of an unfinished object for ever. This is no "put": its
            # error, such as "already closed", is not why the content was not taken.
            async with self._store.call("delete", self._source, _IN_MEMORY, counted=False):
                await self._writer.close()
        with suppress(PayloadError):
            await self._store.delete([self._source])
