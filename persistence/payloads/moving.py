"""A store whose payloads are being moved from, or to, another store: reads ask both.

While objects are copied and processes are restarted one by one, some processes write to one store
and some to the other. So each process looks into the other store before it reports content as
missing. Deletes go to both stores. Everything else uses the first store only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from persistence.payloads.errors import PayloadMissing
from persistence.payloads.store import OpenObject, PayloadObject, PayloadStore
from transport.message.payload import Payload

__all__ = ["FALLBACK_SETTING", "MovingStore"]

FALLBACK_SETTING = "PAYLOAD_FALLBACK_STORE"


class MovingStore(PayloadStore):
    """Reads from ``fallback`` the objects that this store has not.

    An object is missing only if both stores answer, and neither has it. So an outage of either
    store holds back the reads that need it, and no write.
    """

    fallback: PayloadStore

    def __init__(self, client: Any, *, fallback: PayloadStore, **options: Any) -> None:
        super().__init__(client, **options)
        self.fallback = fallback

    async def get(self, key: str, size: int) -> bytes:
        """Return the content of an object from the store that has it."""
        try:
            return await super().get(key, size)
        except PayloadMissing:
            return await self.fallback.get(key, size)

    async def get_several(self, payloads: Sequence[Payload]) -> list[memoryview | None]:
        """Return verified contents, each from the store that has it."""
        contents = await super().get_several(payloads)
        lacking = [index for index, content in enumerate(contents) if content is None]
        if lacking:
            others = await self.fallback.get_several([payloads[index] for index in lacking])
            for index, content in zip(lacking, others, strict=True):
                contents[index] = content
        return contents

    async def have_several(self, payloads: Sequence[Payload]) -> list[bool]:
        """Return which contents exist with the right length, in either store."""
        there = await super().have_several(payloads)
        lacking = [index for index, found in enumerate(there) if not found]
        if lacking:
            others = await self.fallback.have_several([payloads[index] for index in lacking])
            for index, found in zip(lacking, others, strict=True):
                there[index] = found
        return there

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> OpenObject:
        """Begin to read an object from the store that has it."""
        try:
            return await super().open(key, start=start, end=end)
        except PayloadMissing:
            return await self.fallback.open(key, start=start, end=end)

    async def head(self, key: str) -> PayloadObject:
        """Return an object's facts, from the store that has it."""
        try:
            return await super().head(key)
        except PayloadMissing:
            return await self.fallback.head(key)

    async def sign_get(self, key: str, seconds: int) -> str | None:
        """Return a signed URL of the store with the object; ``None`` if that store signs none."""
        try:
            await super().head(key)
        except PayloadMissing:
            return await self.fallback.sign_get(key, seconds)
        return await super().sign_get(key, seconds)

    async def objects(
        self, prefix: str = "", *, after: str | None = None
    ) -> AsyncIterator[Sequence[PayloadObject]]:
        """Yield the objects of both stores; an object that is in both comes twice."""
        for pages in (super().objects(prefix, after=after), self.fallback.objects(prefix)):
            async for page in pages:
                yield page

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects in both stores."""
        await super().delete(keys)
        await self.fallback.delete(keys)

    async def probe(self) -> None:
        """Check that both stores answer, and that they are the expected ones."""
        await super().probe()
        await self.fallback.probe()
