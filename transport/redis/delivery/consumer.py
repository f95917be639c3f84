"""The consumer: a member of a group that keeps leases of partitions and yields their claims."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Self

from transport.contract import Claim
from transport.errors import PartitionLost, TransportError
from transport.outage_watch import OutageWatch
from transport.redis.append.own_appends import OwnAppends
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import Functions
from transport.redis.client.pipelines import Pipelines
from transport.redis.connection.errors import is_of_one_key, translate
from transport.redis.delivery.append_notifier import AppendNotifier
from transport.redis.delivery.claim import RedisClaim
from transport.redis.delivery.inbox import Inbox
from transport.redis.delivery.joint_acks import JointAcks
from transport.redis.delivery.kept_runs import KeptBytes
from transport.redis.delivery.membership import RedisMembership, Renewed
from transport.redis.delivery.slot_notifiers import SlotNotifiers
from transport.redis.delivery.trimming import Retention

__all__ = ["RedisConsumer"]

_log = logging.getLogger(__name__)

_CARE_EVERY = 4
"""Every how many looks a claim is trimmed, and checked for records that other consumers have."""

_MOST_TRIMS = 100
"""Calls that trim a claim in one look. A call ends after 10,000 records, so that the server is not
kept for long.
"""

_REPLY_BYTES = 64 << 20
"""The most bytes of the reads that share a trip. Mostly each brings a few records."""


class RedisConsumer:
    """See ``transport.contract.Consumer``.

    One task looks at the members and owners of the group, at least once per pace and whenever the
    group's bell rings. It renews this member's leases, takes the partitions that are due to it, and
    revokes the claims of those that no longer are. The leases decide who owns a partition; a look
    only says which ones to try.

    ``by_slot``: no call may touch two partitions, as a cluster requires.
    """

    def __init__(
        self,
        connections: RedisConnections,
        functions: Functions,
        membership: RedisMembership,
        notifier: AppendNotifier | SlotNotifiers,
        *,
        own_appends: OwnAppends,
        by_slot: bool,
        retention_seconds: int,
        retention_records: int,
    ) -> None:
        self._reads = Pipelines(connections, most=_REPLY_BYTES)
        self._functions = functions
        self._membership = membership
        self._notifier = notifier
        self._own_appends = own_appends
        self._connections = connections
        self._by_slot = by_slot
        self._acks: dict[str, JointAcks] = {}  # by server, so that one that hangs delays no other
        self._kept = KeptBytes()
        self._retention_seconds = retention_seconds
        self._retention_records = retention_records
        self._held: dict[int, RedisClaim] = {}
        self._renewed_at: dict[RedisClaim, float] = {}
        self._made = -1  # how many connections had ever been made at the last look
        self.looks = 0
        """How many looks at held leases there were."""
        self.unread: dict[int, int] = {}
        """The number of unread records of each partition at the last renewal of its lease."""
        self._refused: dict[int, str] = {}
        self._arrived: asyncio.Queue[RedisClaim | None] = asyncio.Queue()
        self._renewer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # held during a look, which sends this member's heartbeat
        self._withdrawn = False
        self._renewals = OutageWatch()

    async def __aenter__(self) -> Self:
        await self._notifier.__aenter__()
        self._renewer = asyncio.create_task(self._keep(), name="lease renewer")
        self._renewer.add_done_callback(lambda _: self._arrived.put_nowait(None))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for claim in self._held.values():
            claim.lose()
        try:
            if self._renewer:
                self._renewer.cancel()
                await asyncio.wait([self._renewer])
            await asyncio.gather(*(acks.close() for acks in self._acks.values()))
            with contextlib.suppress(TransportError):  # leases that are not released expire
                await self._membership.leave()
        finally:
            await self._notifier.__aexit__()

    async def claims(self) -> AsyncIterator[Claim]:
        """Yield partitions as they come; see ``transport.contract.Consumer.claims``."""
        while (claim := await self._arrived.get()) is not None:
            if not claim.lost:
                yield claim
        self._arrived.put_nowait(None)  # for other iterators
        if self._renewer and self._renewer.done() and not self._renewer.cancelled():
            self._renewer.result()  # only a bug of ours can have ended it: raise that error

    async def withdraw(self) -> None:
        """See ``transport.contract.WithdrawingConsumer.withdraw``."""
        self._withdrawn = True
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(self._membership.pace), self._turn:
                await self._membership.withdraw()
        unserved = [self._arrived.get_nowait() for _ in range(self._arrived.qsize())]
        self._arrived.put_nowait(None)
        await asyncio.gather(*(self._give_back(claim) for claim in unserved if claim))

    async def _keep(self) -> None:
        membership = self._membership
        while True:
            try:
                async with self._turn:
                    rung = await self._look()
            except TransportError as error:
                if self._renewals.failed():
                    _log.warning("Lease renewal failed; will retry: %s", error)
                await asyncio.sleep(membership.pace)
            else:
                if past := self._renewals.succeeded():
                    _log.info("Leases are renewed again, after %s s", past.seconds)
                if rung is None:
                    await asyncio.sleep(membership.pace)
                else:
                    await self._notifier.wait(membership.bell, after=rung, seconds=membership.pace)

    async def _look(self) -> str | None:
        """Look once; return the id of the last ring, after which to listen.

        ``None`` once the consumer has withdrawn: it takes no more partitions.
        """
        for partition, claim in list(self._held.items()):
            if claim.lost:
                del self._held[partition]
        if self._withdrawn:
            await self._renew(list(self._held.values()))
            return None
        try:
            rung, mine = await self._membership.look(frozenset(self._held))
        except TransportError:
            if self._membership.of_several:  # leases on other servers can still be renewed
                await self._renew(list(self._held.values()))
            raise
        for partition in self._held.keys() - set(mine):
            self._held[partition].revoke()
        await self._renew(list(self._held.values()))
        await self._take([p for p in mine if p not in self._held])
        return rung

    async def _take(self, partitions: Sequence[int]) -> None:
        if not partitions:
            return
        unread = [self.unread.get(p, 0) for p in partitions]
        leases = await self._membership.take(partitions, unread)
        for partition, lease in zip(partitions, leases, strict=True):
            if isinstance(lease, Exception):
                self._tell_refused(partition, str(translate(lease)))
                continue
            self._refused.pop(partition, None)
            if lease:
                self._begin(partition, *lease)

    def _tell_refused(self, partition: int, why: str) -> None:
        if self._refused.get(partition) != why:  # log it once, not at every look
            self._refused[partition] = why
            _log.warning(
                "Lease of partition %d not taken or renewed; will retry: %s", partition, why
            )

    def _begin(self, partition: int, epoch: int, position: str) -> None:
        claim = RedisClaim(
            Inbox(
                self._reads,
                self._functions,
                self._membership.log,
                partition,
                group=self._membership.group,
                epoch=epoch,
                position=position,
                last_seen=self._membership.last_seen,
            ),
            self._notifier,
            retention=Retention(seconds=self._retention_seconds, records=self._retention_records),
            own_appends=self._own_appends,
            kept=self._kept,
            acks=self._acks_of(partition),
            left=self._give_back,
        )
        self._held[partition] = claim
        self._arrived.put_nowait(claim)

    def _acks_of(self, partition: int) -> JointAcks:
        """Return the shared acknowledger of the server that has ``partition`` now."""
        cluster = self._connections.cluster
        place = cluster.place_of(self._membership.log.streams[partition]) if cluster else ""
        acks = self._acks.get(place)
        if acks is None:
            acks = JointAcks(self._functions, self._membership.group, by_slot=self._by_slot)
            self._acks[place] = acks
        return acks

    async def _renew(self, claims: Sequence[RedisClaim]) -> None:
        if not claims:
            return
        await self._renew_due(claims)
        self.looks += 1
        due = claims[self.looks % _CARE_EVERY :: _CARE_EVERY]
        full = [claim for claim in claims if claim.partition in self._membership.full]
        await self._trim([*full, *(claim for claim in due if claim not in full)])
        await self._gather_strays([claim for claim in due if not claim.lost])

    async def _renew_due(self, claims: Sequence[RedisClaim]) -> None:
        """Renew the leases that are due; all of them if the server may have changed."""
        now = asyncio.get_running_loop().time()
        connections = self._membership.last_seen.connections()
        latest = now - self._membership.renew_after
        renewed_at = {claim: self._renewed_at.get(claim, latest) for claim in claims}
        if connections == self._made:
            claims = [claim for claim in claims if renewed_at[claim] <= latest]
        self._renewed_at = renewed_at
        if not claims:
            return
        for claim, reply in zip(claims, await self._membership.renew(claims), strict=True):
            if isinstance(reply, Renewed):
                renewed_at[claim] = now
                self._refused.pop(claim.partition, None)
                self._renewed(claim, reply, connections)
            elif isinstance(translate(reply), PartitionLost):
                claim.lose()
            elif is_of_one_key(reply):
                self._tell_refused(claim.partition, str(translate(reply)))
        self._made = connections

    async def _trim(self, claims: Sequence[RedisClaim]) -> None:
        full, trimmed = self._membership.full, 0
        claims = [claim for claim in claims if claim.partition in full or claim.may_trim]
        for _ in range(_MOST_TRIMS):
            if not claims:
                break
            replies = await self._membership.trim(claims)
            for claim, reply in zip(claims, replies, strict=True):
                if isinstance(reply, Exception):
                    why = translate(reply)
                    _log.warning("Trim of %s failed; will retry: %s", claim.stream, why)
                elif claim.partition in full:
                    trimmed += reply
            claims = [
                claim
                for claim, reply in zip(claims, replies, strict=True)
                if isinstance(reply, int) and reply > 0
            ]
        if trimmed:
            _log.warning(
                "Redis is full (maxmemory): %d acknowledged records were removed before their "
                "retention was over; give it memory, or set STREAM_RETENTION_SECONDS lower",
                trimmed,
            )

    async def _gather_strays(self, claims: Sequence[RedisClaim]) -> None:
        """Give up partitions of which another consumer of our group has records.

        That happens if another program, or a person, reads with our group. The partition is then
        claimed again, and delivers those and all other unacknowledged records first.
        """
        if not claims:
            return
        for claim, reply in zip(claims, await self._membership.strays(claims), strict=True):
            if isinstance(reply, int) and reply > 0:
                _log.warning(
                    "Another consumer of group %s has %d records of %s: they are taken from it; "
                    "use a group of your own to read the log",
                    self._membership.group,
                    reply,
                    claim.stream,
                )
                claim.lose()
                self._held.pop(claim.partition, None)
                await self._membership.release([claim])

    def _renewed(self, claim: RedisClaim, reply: Renewed, connections: int) -> None:
        last_seen, partition = self._membership.last_seen, claim.partition
        self.unread[partition] = reply.unread
        if reply.lost >= 0:
            _log.error(
                "%s lost its tail: a replica that was behind was promoted, or an older file "
                "restored. Confirmed records are gone, at least %d of them not yet persisted. "
                "Run `crossfade audit`, and have clients retry",
                claim.stream,
                reply.lost,
            )
            last_seen.forget(partition)
            # This claim may have been given records that are gone. The next claim starts afresh.
            claim.lose()
        last_seen.note_look(
            partition,
            added=reply.appended,
            tail=reply.end,
            unread=reply.unread,
            connections=connections,
        )

    async def _give_back(self, claim: RedisClaim) -> None:
        self._notifier.forget(claim.stream)
        if claim.lost:
            self._notifier.ring(self._membership.bell)  # look for the partition's owner now
            return
        claim.lose()
        self._held.pop(claim.partition, None)
        with contextlib.suppress(TransportError):  # the lease expires by itself
            await self._membership.release([claim])
