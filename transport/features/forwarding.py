"""The base class of transport decorators: it forwards every call to another transport.

A subclass overrides the calls that it changes. A new call of the contract is forwarded here once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from transport.contract import (
    DeadLetter,
    Envelope,
    GroupStanding,
    Holding,
    Outcome,
    Progress,
    Record,
    Remembered,
    Topic,
    Transport,
)
from transport.durability import Durability

__all__ = ["Forwarding", "innermost"]


class Forwarding:
    """Forwards every call to ``inner``; see ``transport.contract.Transport``."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.name = inner.name
        self.contract = inner.contract
        self.system = inner.system
        self.partitions = inner.partitions
        self.features = inner.features
        self.location = inner.location

    def _ready(self) -> Transport:
        """Return the transport to forward to."""
        return self.inner

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.__aexit__(*exc)

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """As the inner transport."""
        return await self._ready().publish(envelopes, remember=remember)

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """As the inner transport."""
        return await self._ready().recall(message_ids)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """As the inner transport."""
        await self._ready().dead_letter(letters)

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """As the inner transport."""
        return await self._ready().read(topic, partition, after=after, limit=limit, wait=wait)

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """As the inner transport."""
        await self._ready().publish_positions(topic, positions, group=group)

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """As the inner transport."""
        return await self._ready().read_back(topic, partition, before=before, limit=limit)

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """As the inner transport."""
        return await self._ready().reaches(topic, partition, after=after)

    def offset_before(self, offset: str) -> str | None:
        """As the inner transport."""
        return self.inner.offset_before(offset)

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """As the inner transport."""
        return await self._ready().offset_before_time(topic, partition, time)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """As the inner transport."""
        return await self._ready().progress(topic, group=group)

    async def surplus(self) -> Sequence[int]:
        """As the inner transport."""
        return await self._ready().surplus()

    def sort_key(self, offset: str) -> bytes:
        """As the inner transport."""
        return self.inner.sort_key(offset)

    async def identity(self) -> str:
        """As the inner transport."""
        return await self._ready().identity()

    async def forget_group(self, group: str) -> None:
        """As the inner transport."""
        await self._ready().forget_group(group)

    async def groups(self) -> Sequence[GroupStanding]:
        """As the inner transport."""
        return await self._ready().groups()

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """As the inner transport."""
        return await self._ready().remove(dry_run=dry_run)

    async def durability(self) -> Durability:
        """As the inner transport."""
        return await self._ready().durability()

    async def ping(self) -> None:
        """As the inner transport."""
        await self._ready().ping()


def innermost(transport: Transport) -> object:
    """Return the transport inside all decorators."""
    inner: object = transport
    while isinstance(inner, Forwarding):
        inner = inner.inner
    return inner
