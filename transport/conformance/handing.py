"""Handing over: a claim gets its own process's appends at once, as if it had read them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import Member, contents, drain, message, messages, until
from transport.contract import WORKER_GROUP, HandingClaim, Record, Topic, Transport
from transport.errors import PartitionLost


class _Owner:
    """The owner of one claim: collects handed-over and read records, in order of arrival."""

    def __init__(self, claim: HandingClaim) -> None:
        self.claim = claim
        self.seen: list[str] = []
        self.handed: list[str] = []
        self.read_count = 0
        self.passes = True
        self.takes = True

    def take(self, records: Sequence[Record]) -> bool:
        if not self.takes:
            return False
        self.handed += contents(records)
        self.seen += contents(records)
        if self.passes:
            self.claim.passed(records[-1].offset)
        return True

    async def read(self) -> None:
        self.claim.hand_over(self.take)
        with contextlib.suppress(PartitionLost):
            while True:
                records = await self.claim.next(max_records=10, max_wait=30.0)
                if records:
                    self.seen += contents(records)
                    self.read_count += len(records)
                    await self.claim.ack(records[-1].offset)

    async def until_handed(self, text: str, transport: Transport, *, patience: float) -> None:
        """Append until a record is handed over, each time after all others are acknowledged."""
        self.handed.clear()

        async def is_handed() -> bool:
            if not self.handed and await _is_acknowledged(transport):
                self.seen.clear()
                await transport.publish([message(text, partition=0, of=transport)])
            return bool(self.handed)

        await until(is_handed, patience=patience)

    async def until_both_are_handed(self, transport: Transport, *, patience: float) -> Record:
        """Append "a" and "b" until both are handed over and none passed; return the first."""
        found: list[Record] = []

        async def are_handed() -> bool:
            self.passes = False
            await self.until_handed("a", transport, patience=patience)
            found[:] = await transport.read_back(Topic.MESSAGES, 0, limit=1)
            await transport.publish(messages(["b"], partition=0, of=transport))
            if self.handed == ["a", "b"]:
                return True
            # On a busy machine the claim begins to read the second, and waits for the first.
            self.passes = True
            self.claim.passed(found[0].offset)
            await until(lambda: _is_acknowledged(transport), patience=patience)
            return False

        await until(are_handed, patience=patience)
        return found[0]

    @asynccontextmanager
    async def reading(self, transport: Transport, backend: Backend) -> AsyncIterator[None]:
        """Work until the block ends; it begins with nothing to read."""
        task = asyncio.create_task(self.read())
        try:
            await self.until_handed("first", transport, patience=backend.patience)
            await until(lambda: _is_acknowledged(transport), patience=backend.patience)
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _owner(member: Member, backend: Backend) -> _Owner:
    backend.need("hands_over")
    claim = await member.claim(0)
    assert isinstance(claim, HandingClaim)
    return _Owner(claim)


async def _is_acknowledged(transport: Transport) -> bool:
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return progress[0].lag == 0


@pytest.mark.asyncio
async def test_what_a_process_appends_is_handed_to_its_claim(backend: Backend) -> None:
    backend.need("hands_over")
    async with backend.create() as transport, Member(transport) as member:
        owner = await _owner(member, backend)
        async with owner.reading(transport, backend):
            await owner.until_handed("a", transport, patience=backend.patience)
            assert owner.handed == owner.seen == ["a"], "by the time that it is appended"
            await transport.publish(messages(["b", "c"], partition=0, of=transport))
            await transport.publish(messages(["d"], partition=0, of=transport))
            await until(lambda: _is_acknowledged(transport), patience=backend.patience)
            assert owner.seen == ["a", "b", "c", "d"], "once each"


@pytest.mark.asyncio
async def test_what_is_handed_over_and_what_is_read_come_in_the_order_of_the_log(
    backend: Backend,
) -> None:
    backend.need("hands_over")
    draw = random.Random(16)  # noqa: S311 - a test
    async with backend.create() as ours, backend.create() as theirs, Member(ours) as member:
        owner = await _owner(member, backend)
        async with owner.reading(ours, backend):
            await owner.until_handed("before", ours, patience=backend.patience)
            (before,) = await ours.read_back(Topic.MESSAGES, 0, limit=1)
            read_before = owner.read_count

            async def append(transport: Transport, name: str) -> None:
                for i in range(40):
                    texts = [f"{name}{i}.{n}" for n in range(draw.randint(1, 3))]
                    await transport.publish(messages(texts, partition=0, of=transport))
                    await asyncio.sleep(draw.choice((0, 0, 0.001, 0.02)))

            rounds = itertools.count()

            async def both_ways() -> bool:
                """Append; on a busy machine the claim may read it all, or be handed it all.

                A claim that has read much is handed nothing for a while, so it gets time for that.
                """
                n = next(rounds)
                if owner.read_count > read_before:
                    await ours.publish([message(f"{n} alone", partition=0, of=ours)])
                else:
                    await asyncio.gather(
                        append(ours, f"{n} a"), append(theirs, f"{n} b"), append(ours, f"{n} c")
                    )
                await until(lambda: _is_acknowledged(ours), patience=backend.patience)
                return len(owner.handed) > 1 and owner.read_count > read_before

            await until(both_ways, patience=backend.patience)
            log = await ours.read(Topic.MESSAGES, 0, after=before.offset, limit=100_000)
            assert owner.seen == ["before", *contents(log)]


@pytest.mark.asyncio
async def test_what_was_handed_over_and_not_acknowledged_comes_to_the_next_owner(
    backend: Backend,
) -> None:
    backend.need("hands_over")
    async with backend.create() as transport:
        async with Member(transport) as member:
            owner = await _owner(member, backend)
            async with owner.reading(transport, backend):
                owner.passes = False
                await owner.until_handed("a", transport, patience=backend.patience)
        async with Member(transport, "heir") as heir:
            records = await drain(await heir.claim(0), 1, patience=backend.patience)
            assert contents(records) == ["a"]


@pytest.mark.asyncio
async def test_a_stale_owner_passes_nothing(backend: Backend) -> None:
    backend.need("hands_over", "silence")
    assert backend.silence is not None
    async with backend.create() as transport, AsyncExitStack() as stack:
        stale = await stack.enter_async_context(Member(transport, "stale"))
        owner = await _owner(stale, backend)
        async with owner.reading(transport, backend):
            owner.passes = False
            await owner.until_handed("a", transport, patience=backend.patience)
            (appended,) = await transport.read_back(Topic.MESSAGES, 0, limit=1)
            await backend.silence(stale.consumer)
            heir = await stack.enter_async_context(Member(transport, "heir"))
            claim = await heir.claim(0)
            ends = list[int | None]()
            owner.claim.passed(appended.offset, ends.append)
            await owner.claim.__aexit__(None, None, None)  # waits for the acknowledgement
            assert ends == [None]
            assert contents(await drain(claim, 1, patience=backend.patience)) == ["a"]
            progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            assert progress[0].lag == 1


@pytest.mark.asyncio
async def test_what_is_refused_afterwards_is_read_in_its_place(backend: Backend) -> None:
    backend.need("hands_over")
    async with backend.create() as transport, Member(transport) as member:
        owner = await _owner(member, backend)
        async with owner.reading(transport, backend):
            owner.passes = False
            await owner.until_handed("a", transport, patience=backend.patience)
            owner.passes = True
            owner.claim.refused()
            await transport.publish(messages(["b", "c"], partition=0, of=transport))
            await until(lambda: _is_acknowledged(transport), patience=backend.patience)
            assert owner.seen == ["a", "a", "b", "c"]


@pytest.mark.asyncio
async def test_what_is_refused_behind_what_is_stored_is_read_in_its_place(
    backend: Backend,
) -> None:
    """The first is not acknowledged yet when the second is refused."""
    backend.need("hands_over")
    async with backend.create() as transport, Member(transport) as member:
        owner = await _owner(member, backend)
        async with owner.reading(transport, backend):
            stored = await owner.until_both_are_handed(transport, patience=backend.patience)
            owner.passes = True
            owner.claim.passed(stored.offset)
            owner.claim.refused()
            await transport.publish(messages(["c"], partition=0, of=transport))
            await until(lambda: _is_acknowledged(transport), patience=backend.patience)
            assert owner.seen == ["a", "b", "b", "c"]


@pytest.mark.asyncio
async def test_nothing_is_handed_over_before_what_was_read_is_acknowledged(
    backend: Backend,
) -> None:
    """It would be stored beside that, and before it where that has to be stored again."""
    backend.need("hands_over")
    async with backend.create() as transport, Member(transport) as member:
        owner = await _owner(member, backend)
        await transport.publish(messages(["a"], partition=0, of=transport))
        owner.claim.hand_over(owner.take)
        await drain(owner.claim, 1, patience=backend.patience)
        await transport.publish(messages(["b"], partition=0, of=transport))
        records = await drain(owner.claim, 1, patience=backend.patience)
        assert (contents(records), owner.handed) == (["b"], [])
        await owner.claim.ack(records[-1].offset)


@pytest.mark.asyncio
async def test_what_is_not_taken_is_read(backend: Backend) -> None:
    backend.need("hands_over")
    async with backend.create() as transport, Member(transport) as member:
        owner = await _owner(member, backend)
        async with owner.reading(transport, backend):
            owner.takes = False
            await transport.publish(messages(["a", "b"], partition=0, of=transport))
            await until(lambda: _is_acknowledged(transport), patience=backend.patience)
            assert owner.seen == ["first", "a", "b"]
