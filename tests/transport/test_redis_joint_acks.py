"""Acknowledgements of several claims in one round trip: an error of one does not affect others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.transport.redis_backend import silence
from transport.conformance.member import Member, message, until
from transport.contract import WORKER_GROUP, Claim
from transport.redis import RedisTransport
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import Functions
from transport.redis.delivery.joint_acks import DueAck, JointAcks
from transport.settings import TransportSettings

PATIENCE = 20.0
ROUNDS = 6
SECONDS_PER_CLAIM = 0.004  # as in joint_acks.py
MOST_PER_CALL = 16  # the same


class _Claim:
    """A claim with one record to acknowledge, which records its replies."""

    def __init__(self, claim: Claim, through: str, message_id: str) -> None:
        self.stream = f"msg:stream:{claim.partition}"
        self.lease = f"{{{self.stream}}}:lease:{WORKER_GROUP}"
        self.epoch = claim.epoch
        self.told: list[str | Exception] = []
        self._passed: DueAck | None = DueAck("0-0", through, message_id, 1)

    def begin_ack(self) -> DueAck | None:
        passed, self._passed = self._passed, None
        return passed

    def acked(self, count: int, through: str, began: int) -> None:
        self.told.append(through)

    def not_acked(self, error: Exception) -> None:
        self.told.append(error)


class _Busy:
    """A claim that is due again after each reply. Nobody holds its lease, so it gets an error."""

    epoch = 1

    def __init__(self, number: int, acks: JointAcks) -> None:
        self.stream = f"msg:stream:{number}"
        self.lease = f"{{{self.stream}}}:lease:{WORKER_GROUP}"
        self.rounds = 0
        self._acks = acks

    def begin_ack(self) -> DueAck | None:
        self.rounds += 1
        return DueAck("0-0", "1-0", "a", 1)

    def acked(self, count: int, through: str, began: int) -> None:
        raise AssertionError(through)

    def not_acked(self, error: Exception) -> None:
        self._acks.add(self)


class _InAHurry(_Busy):
    """Is in a hurry each time."""

    may_stop = False

    def not_acked(self, error: Exception) -> None:
        if not self.may_stop:
            super().not_acked(error)
            self._acks.hurry(self)


@pytest.fixture
async def acks(near: RedisTransport, settings: TransportSettings) -> AsyncIterator[JointAcks]:
    """The acknowledgements of a log that ``near`` has made."""
    connections = RedisConnections(settings)
    acks = JointAcks(Functions(connections), WORKER_GROUP, by_slot=False)
    try:
        yield acks
    finally:
        await acks.close()
        await connections.close()


async def test_the_more_claims_are_due_the_longer_they_wait_for_each_other(
    acks: JointAcks,
) -> None:
    """Each costs the server the same, however few records it acknowledges."""
    busy = [_Busy(number, acks) for number in range(100)]
    began = time.monotonic()
    for claim in busy:
        acks.add(claim)
    await until(lambda: busy[0].rounds >= ROUNDS, patience=PATIENCE)
    took = time.monotonic() - began
    assert took >= (ROUNDS - 1) * len(busy) * SECONDS_PER_CLAIM


async def test_a_call_that_is_refused_fails_no_other_call_of_its_trip(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    """In a cluster, each claim's acknowledgement is a call."""
    connections = RedisConnections(settings)
    acks = JointAcks(Functions(connections), WORKER_GROUP, by_slot=True)
    async with Member(near) as member:
        held = [await member.claim(p) for p in range(3)]
        await silence(member.consumer)
        claims = list[_Claim]()
        for claim in held:
            envelope = message("a", partition=claim.partition, of=near)
            (appended,) = await near.publish([envelope])
            claims.append(_Claim(claim, appended.offset, envelope.message_id))
        try:
            await client.execute_command(
                "ACL", "SETUSER", "default", "resetkeys", "~*stream:0*", "~*stream:2*"
            )
            for claim in claims:
                acks.add(claim)
            await until(lambda: all(claim.told for claim in claims), patience=PATIENCE)
        finally:
            await client.execute_command("ACL", "SETUSER", "default", "~*")
            await acks.close()
            await connections.close()
    first, refused, last = (claim.told for claim in claims)
    assert isinstance(refused[0], Exception)
    assert [type(first[0]), type(last[0])] == [str, str]
    for told, partition in ((first, 0), (last, 2)):
        (group,) = await client.xinfo_groups(f"msg:stream:{partition}")
        assert group["last-delivered-id"].decode() == told[0]


async def test_no_call_holds_the_server_for_all_claims_that_are_due(
    acks: JointAcks, client: Redis
) -> None:
    """Such a call would delay the server's answers to all other clients."""
    busy = [_Busy(number, acks) for number in range(100)]
    before = (await client.info("commandstats")).get("cmdstat_fcall", {"calls": 0})["calls"]
    for claim in busy:
        acks.add(claim)
    await until(lambda: all(claim.rounds for claim in busy), patience=PATIENCE)
    after = (await client.info("commandstats"))["cmdstat_fcall"]["calls"]
    assert after - before >= len(busy) / MOST_PER_CALL


async def test_claims_in_a_hurry_take_no_others_turn(acks: JointAcks) -> None:
    busy = [_Busy(number, acks) for number in range(100)]
    hurried = _InAHurry(100, acks)
    for claim in (hurried, *busy):
        acks.add(claim)
    acks.hurry(hurried)
    try:
        await until(lambda: all(claim.rounds for claim in busy), patience=PATIENCE)
    finally:
        hurried.may_stop = True
    assert hurried.rounds > busy[0].rounds


async def test_a_claim_in_a_hurry_waits_for_no_turn(acks: JointAcks) -> None:
    busy = [_Busy(number, acks) for number in range(1000)]
    for claim in busy:
        acks.add(claim)
    acks.hurry(busy[-1])
    await until(lambda: busy[-1].rounds == 1, patience=PATIENCE)
    assert not busy[-2].rounds
