"""The payload store: objects by key, in S3, in another cloud's store, in a folder or in memory.

The client is obstore. It is imported when a store is opened, so a process without a store does not
need it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec

from otel.metrics import Metrics
from persistence.payloads.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadMissing,
    PayloadOutage,
)
from persistence.payloads.folder import MARK, PayloadFolder, new_identity
from persistence.payloads.mark import STORE_NAME, check_mark
from persistence.payloads.metrics import OUTCOMES, PayloadMetrics
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.several import SeveralObjects
from persistence.payloads.translation import is_refusal, translate
from transport.message.payload import Payload

__all__ = ["OpenObject", "PayloadObject", "PayloadStore"]

_CHUNK = 256 * 1024
_PAGE = 1000
_RECENT = 60.0
_RENEWED_EVERY = 10.0
_SLOWEST = 10**6
"""The slowest store that is waited for, in bytes a second, beyond the time of a small object."""


class PayloadObject(msgspec.Struct, frozen=True):
    """An object of ``size`` bytes, last written at ``modified`` by the store's clock."""

    key: str
    size: int
    modified: datetime


class OpenObject(msgspec.Struct, frozen=True):
    """An object whose content is being read. ``size`` is that of the whole, for any range."""

    size: int
    modified: datetime
    chunks: AsyncIterator[bytes]


class PayloadStore:
    """Writes and reads objects. ``put`` and ``commit`` return when the object is durable.

    Args:
        client: obstore's store, rooted at the prefix.
        folder: the folder behind the store, if it is one.
        settings: the store uses the time limit, and its callers the rest.
        metrics: of this process.
        name: the name under which PostgreSQL knows the store's identity.
        renewed: makes a client like ``client``, which asks the machine's role anew.
    """

    fallback: PayloadStore | None = None
    """The store that is read if this one has no such object; see ``moving``."""

    def __init__(
        self,
        client: Any,
        *,
        folder: PayloadFolder | None = None,
        settings: PayloadSettings,
        metrics: Metrics,
        name: str = STORE_NAME,
        renewed: Callable[[], Any] | None = None,
    ) -> None:
        import obstore  # noqa: PLC0415 - only where there is a store

        self._obstore = obstore
        self._client = client
        self._several = SeveralObjects(obstore, client)
        self._folder = folder
        self.settings = settings
        """The settings with which it was opened."""
        self.name = name
        """The name under which PostgreSQL knows its identity."""
        self.identity: str | None = None
        """The identity of its mark, as PostgreSQL knows it; ``None``: the mark is not checked."""
        self.withheld: str | None = None
        """The reason why nothing may be written, or be reported as missing, now; one line."""
        self.elsewhere: str | None = None
        """Why an object that this store lacks may be in another one, and so is not missing."""
        self._refused: tuple[float, str] | None = None  # by the monotonic clock: the last write
        self._seconds = settings.payload_timeout_ms / 1000
        on_s3 = (settings.payload_store or "").startswith("s3:")
        self._asks_role = on_s3 and settings.aws_access_key_id is None
        self._metrics = metrics.of(PayloadMetrics)
        self._renewed = renewed
        self._renewed_at = -_RENEWED_EVERY  # by the monotonic clock

    @property
    def addresses(self) -> list[str]:
        """The addresses from which objects are read, first the store that is written."""
        own = self.settings.payload_store
        return [*([own] if own else ()), *(self.fallback.addresses if self.fallback else ())]

    @property
    def unwritten(self) -> str | None:
        """Why the last write failed, if that was within a minute; a full disk answers reads."""
        if self._refused is None or time.monotonic() - self._refused[0] > _RECENT:
            return None
        return self._refused[1]

    async def put(self, key: str, data: bytes) -> None:
        """Write an object. The same key always has the same bytes, so a retry does no harm.

        Raises:
            PayloadOutage: the store can't take it now; it may have.
        """
        async with self.call("put", key, len(data)):
            await self.usable()
            await self._obstore.put_async(self._client, key, data, use_multipart=False)
            await self.flush(key)
        self._metrics.bytes.labels("put").inc(len(data))

    def writer(self, key: str, *, part_bytes: int, parts: int) -> Any:
        """Return obstore's writer of an object that comes in parts, ``parts`` of them at once."""
        return self._obstore.open_writer_async(
            self._client, key, buffer_size=part_bytes, max_concurrency=parts
        )

    async def move(self, source: str, key: str, size: int) -> None:
        """Give an object of ``size`` bytes another key, durably, inside the store.

        Raises:
            PayloadOutage: the store can't do it now; it may have happened.
        """
        async with self.call("put", key, size):
            await self.usable()
            await self._obstore.copy_async(self._client, source, key)
            await self.flush(key)
        self._metrics.bytes.labels("put").inc(size)
        with suppress(PayloadError):  # the content is safe, and the sweep removes the source
            await self._delete([source])

    async def get(self, key: str, size: int) -> bytes:
        """Return the content of an object of ``size`` bytes; ``reading.fetch`` verifies it.

        Raises:
            PayloadMissing, PayloadOutage: as their names say.
            PayloadCorrupt: the object has another length.
        """
        async with self.call("get", key, size):
            data = await self._start_of(key, size + 1)
            if len(data) != size:
                found = f"more than {size}" if len(data) > size else str(len(data))
                raise PayloadCorrupt(f"the object {key} has {found} bytes, not {size}")
        self._metrics.bytes.labels("get").inc(len(data))
        return data

    async def get_several(self, payloads: Sequence[Payload]) -> list[memoryview | None]:
        """Return verified contents, and ``None`` for each that can't be read or is wrong.

        This takes less time than a ``get`` for each; ``get`` reports why an object can't be read.
        """
        seconds = self._seconds + sum(payload.bytes for payload in payloads) / _SLOWEST
        contents = await self._several.contents(payloads, seconds=seconds)
        got = [len(content) for content in contents if content is not None]
        self._metrics.requests.labels("get", "ok").inc(len(got))
        self._metrics.bytes.labels("get").inc(sum(got))
        return contents

    async def have_several(self, payloads: Sequence[Payload]) -> list[bool]:
        """Return which contents exist with the right length. ``head`` reports why one does not."""
        there = await self._several.are_there(payloads, seconds=self._seconds)
        self._metrics.requests.labels("head", "ok").inc(sum(there))
        return there

    async def _start_of(self, key: str, most: int) -> bytes:
        """Return up to ``most`` bytes of an object.

        It is one call of the client, which returns from its thread once. Head and body of a whole
        object are two calls, and cost half as much processor time again.
        """
        try:
            call = self._obstore.get_range_async(self._client, key, start=0, end=most)
            return bytes(await self._found(call))
        except self._obstore.exceptions.GenericError as failure:
            # Either the store failed, or the object is empty: an empty object has no such range.
            try:
                meta = await self._found(self._obstore.head_async(self._client, key))
            except self._obstore.exceptions.GenericError:
                raise failure from None  # the answer to a HEAD has no reason in it
            if meta["size"]:
                raise
            return b""

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> OpenObject:
        """Begin to read an object, or its bytes from ``start`` to before ``end``.

        The chunks raise as this does. Between two of them the store may be silent for
        ``PAYLOAD_TIMEOUT_MS``; the caller bounds the whole.

        Raises:
            PayloadMissing, PayloadOutage: as their names say.
        """
        async with self.call("get", key):
            options: Any = None
            if end is not None:
                options = {"range": (start, end)}
            elif start:
                options = {"range": {"offset": start}}
            found = await self._found(self._obstore.get_async(self._client, key, options=options))
        meta = found.meta
        chunks = self._chunks(found.stream(min_chunk_size=_CHUNK), key)
        return OpenObject(meta["size"], meta["last_modified"], chunks)

    async def head(self, key: str) -> PayloadObject:
        """Return an object's facts, without its content.

        Raises:
            PayloadMissing, PayloadOutage: as their names say.
        """
        async with self.call("head", key):
            meta = await self._found(self._obstore.head_async(self._client, key))
        return _object(meta)

    async def objects(
        self, prefix: str = "", *, after: str | None = None
    ) -> AsyncIterator[Sequence[PayloadObject]]:
        """Yield the objects under a prefix, some at a time.

        Args:
            prefix: whole segments of keys: ``uploading``, or a message id.
            after: only keys behind this one, where the store lists keys in order (S3 does).

        Raises:
            PayloadOutage: the store can't answer now.
        """
        pages = self._obstore.list(self._client, prefix or None, offset=after, chunk_size=_PAGE)
        iterator = aiter(pages)
        while True:
            async with self.call("list", prefix, counted=False):
                try:
                    page = await anext(iterator)
                except StopAsyncIteration:
                    return
            yield [_object(meta) for meta in page if not meta["path"].startswith(".")]

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; keys without an object do no harm.

        Raises:
            PayloadOutage: the store can't do it now; some may be gone.
        """
        await self._delete(keys)

    async def _delete(self, keys: Sequence[str]) -> None:
        async with self.call("delete", f"{len(keys)} objects"):
            with suppress(FileNotFoundError):
                await self._obstore.delete_async(self._client, list(keys))
                return
            # A store that reports a missing object as an error stops there.
            for key in keys:
                with suppress(FileNotFoundError):
                    await self._obstore.delete_async(self._client, key)

    async def sign_get(self, key: str, seconds: int) -> str | None:
        """Return a URL that reads the object for ``seconds``; ``None`` if the store signs none.

        Raises:
            PayloadOutage: no credentials for signing are available.
        """
        from obstore.store import LocalStore, MemoryStore  # noqa: PLC0415

        if isinstance(self._client, LocalStore | MemoryStore):
            return None
        async with self.call("sign", key):
            url: str = await self._obstore.sign_async(
                self._client, "GET", key, timedelta(seconds=seconds)
            )
        return url

    async def probe(self) -> None:
        """Check that the store answers us, and is the expected one.

        Its mark is read with a GET: the answer to a HEAD has no body, and does not tell whether the
        object is missing, or the bucket.

        Raises:
            PayloadOutage: it can't be reached, refuses, its bucket does not exist, or it is
                another.
        """
        await self._probe()

    async def _probe(self) -> None:
        if self.withheld is not None:
            raise PayloadOutage(self.withheld)
        await self.compare()
        if self.elsewhere is not None:
            raise PayloadOutage(self.elsewhere)

    async def trouble(self, *, within: float) -> str | None:
        """Return why the store can't be used, or why it took no object lately; ``None`` if it can.

        ``within`` is the longest wait for its answer, in seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self.probe()
        except (PayloadError, TimeoutError) as error:
            return str(error) or f"no answer within {within:g} s"
        return self.unwritten

    async def usable(self) -> None:
        """Check that objects may be written, as far as is known without asking a server.

        Raises:
            PayloadOutage: they may not.
        """
        if self.withheld is not None or self._folder is not None:
            await self._probe()

    async def mark(self) -> str | None:
        """Return the identity in the store's mark; ``None`` if it has no mark.

        Raises:
            PayloadOutage: the store can't answer now.
        """
        if self._folder is not None:
            async with self.call("get", MARK, counted=False):
                return await asyncio.to_thread(self._folder.mark)
        with suppress(PayloadMissing):
            async with self.call("get", MARK):
                found = await self._obstore.get_async(self._client, MARK)
                return bytes(await found.bytes_async()).decode(errors="replace") or None
        return None

    async def make_mark(self, identity: str | None = None) -> str:
        """Mark the store, with a new identity if none is given; return its identity.

        Raises:
            PayloadOutage: the store can't do it now; it may have happened.
        """
        identity = identity or new_identity()
        async with self.call("put", MARK):
            if self._folder is not None:
                await asyncio.to_thread(self._folder.make_mark, identity)
            else:
                data = identity.encode()
                await self._obstore.put_async(self._client, MARK, data, use_multipart=False)
        return identity

    async def compare(self) -> None:
        """Check that the store's mark is the expected one.

        Raises:
            PayloadOutage: it is not, or the store can't answer.
        """
        self._compare(await self.mark())

    def _compare(self, found: str | None) -> None:
        if found is None and self.identity is None and self._folder is None:
            return  # PostgreSQL was not asked, and a bucket can't be unmounted
        address = self.settings.payload_store
        check_mark(found, self.identity, name=self.name, address=address)

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove the files of writes that never ended, and empty folders, last changed before.

        Only a folder has such files. A bucket keeps parts of uploads, which its lifecycle rule
        removes.

        Returns:
            How many files were removed.
        """
        if self._folder is None:
            return 0
        return await asyncio.to_thread(self._folder.remove_unfinished, before.timestamp())

    @asynccontextmanager
    async def call(
        self, operation: str, key: str, size: int = 0, *, counted: bool = True
    ) -> AsyncIterator[None]:
        """Bound, count and translate a request about ``key``, of ``size`` bytes of content.

        Args:
            operation: its name in the metrics.
            key: the object's key, for error texts.
            size: the number of bytes, for the time limit.
            counted: ``False`` for a part of a request, which is counted only if it fails.

        Raises:
            PayloadError: the translated error of the block.
        """
        try:
            async with asyncio.timeout(self._seconds + size / _SLOWEST):
                yield
        except Exception as error:
            known = translate(error, key, asks_role=self._asks_role)
            self._metrics.requests.labels(operation, OUTCOMES.get(type(known), "outage")).inc()
            if self._asks_role and is_refusal(error):
                self._renew()
            if known is error:
                raise  # of our own check, which readiness makes anew
            if operation == "put" and isinstance(known, PayloadOutage):
                self._refused = time.monotonic(), str(known)
            raise known from error
        if counted:
            self._metrics.requests.labels(operation, "ok").inc()
            if operation == "put":
                self._refused = None

    def _renew(self) -> None:
        """Take a new client: this one keeps its role's credentials until they expire."""
        now = time.monotonic()
        if self._renewed is None or now < self._renewed_at + _RENEWED_EVERY:
            return
        self._renewed_at = now
        self._client = self._renewed()
        self._several = SeveralObjects(self._obstore, self._client)

    async def _found(self, call: Any) -> Any:
        try:
            return await call
        except FileNotFoundError:
            await self._probe()  # nothing counts as missing if the store is not ours
            raise

    async def _chunks(self, stream: Any, key: str) -> AsyncIterator[bytes]:
        iterator = aiter(stream)
        while True:
            async with self.call("get", key, counted=False):
                try:
                    chunk = bytes(await anext(iterator))
                except StopAsyncIteration:
                    return
            self._metrics.bytes.labels("get").inc(len(chunk))
            yield chunk

    async def flush(self, key: str) -> None:
        """Make an object durable; only a folder needs this.

        Its mark is checked once more: the disk may have been unmounted meanwhile, and the object
        been written below its mount point.
        """
        if self._folder is not None:
            self._compare(await asyncio.to_thread(self._folder.flush, key))


def _object(meta: Any) -> PayloadObject:
    return PayloadObject(meta["path"], meta["size"], meta["last_modified"])
