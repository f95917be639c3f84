"""Check an object against its message: length and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from persistence.payloads.errors import PayloadCorrupt
from persistence.payloads.store import PayloadStore

__all__ = ["check_digest", "fetch", "measure", "verify"]


async def fetch(store: PayloadStore, key: str, size: int, sha256: str) -> bytes:
    """Return verified content.

    Raises:
        PayloadMissing, PayloadCorrupt, PayloadOutage: as their names say.
    """
    async with _our(store):
        data = await store.get(key, size)
        check_digest(key, hashlib.sha256(data).hexdigest(), sha256)
    return data


async def measure(store: PayloadStore, key: str, size: int) -> None:
    """Check that the object exists and has its size. Its content is not read.

    Raises:
        PayloadMissing, PayloadCorrupt, PayloadOutage: as their names say.
    """
    async with _our(store):
        _check_size(key, (await store.head(key)).size, size)


async def verify(store: PayloadStore, key: str, size: int, sha256: str) -> None:
    """Check that the content is the one in its message. It is never in memory as a whole.

    Raises:
        PayloadMissing, PayloadCorrupt, PayloadOutage: as their names say.
    """
    async with _our(store):
        content = await store.open(key)
        _check_size(key, content.size, size)
        digest = hashlib.sha256()
        # The store bounds the wait for each chunk, and so the whole.
        async for chunk in content.chunks:
            digest.update(chunk)
        check_digest(key, digest.hexdigest(), sha256)


@asynccontextmanager
async def _our(store: PayloadStore) -> AsyncIterator[None]:
    """Raise ``PayloadCorrupt`` of the block only if the store has its mark.

    A web server at the store's address may give one page, or an empty one, for every key.
    """
    try:
        yield
    except PayloadCorrupt:
        await store.probe()
        raise


def _check_size(key: str, found: int, expected: int) -> None:
    if found != expected:
        raise PayloadCorrupt(f"the object {key} has {found} bytes, not {expected}")


def check_digest(key: str, found: str, expected: str) -> None:
    """Check that the SHA-256 of an object's content is the expected one.

    Raises:
        PayloadCorrupt: it is not.
    """
    if found != expected:
        raise PayloadCorrupt(f"the object {key} has the SHA-256 {found}")
