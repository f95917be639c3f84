"""The calls to Redis by which the members of a group share its partitions."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from redis.exceptions import OutOfMemoryError

from transport.assignment import fair_shares
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import is_of_one_key, translate
from transport.redis.delivery.claim import RedisClaim
from transport.redis.keys import TopicKeys, consumer
from transport.redis.rescue.last_seen import LastSeen

__all__ = ["RedisMembership", "Renewed"]

_LONGEST_PACE = 1.0
_LONGEST_UNRENEWED = 2.5


class Renewed(NamedTuple):
    """The state of a stream when its lease was renewed.

    ``unread`` and ``appended`` are numbers of records, ``end`` is the last record's id. ``lost`` is
    the number of records lost if the log went back; -1 if it did not.
    """

    unread: int
    appended: int
    end: str
    lost: int


class RedisMembership:
    """One member of one group of one log. Every method may raise ``TransportUnavailable``.

    Args:
        functions: the Lua library.
        log: the keys of the log.
        group: the group's name.
        member: the name of this member, unique among live processes.
        lease_ms: milliseconds after which a silent member loses its partitions.
        last_seen: remembers the streams, to notice a loss.
        of_several: each partition may be on another server of a cluster.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        group: str,
        member: str,
        lease_ms: int,
        last_seen: LastSeen,
        of_several: bool,
    ) -> None:
        self.log = log
        self.group = group
        self.bell = log.bell(group)
        self.pace = min(lease_ms / 3000, _LONGEST_PACE)
        """Seconds between two looks: a lease outlives two looks that fail. It is also the time that
        a server of a cluster has to answer, so that leases on other servers are renewed in time."""
        self.renew_after = min(lease_ms / 4000, _LONGEST_UNRENEWED)
        """Seconds after which a look renews a lease: the lease outlives some failed looks after
        that. The renewal also tells this member whether the stream lost records."""
        self.last_seen = last_seen
        """The last records seen in each stream, to notice a loss."""
        self._functions = functions
        self._member = member
        self._lease_ms = lease_ms
        self._leases = [log.lease(p, group) for p in range(len(log.streams))]
        self._members = log.members(group)
        self.of_several = of_several
        """Whether each partition may be on another server of a cluster."""
        self._owners: list[str | None] = [None] * len(self._leases)
        self.full: AbstractSet[int] = frozenset()
        """Partitions on servers that were full (out of memory) at the last look."""

    async def look(self, held: AbstractSet[int]) -> tuple[str, list[int]]:
        """Send a heartbeat; return the id of the last ring, and the partitions due to this member.

        It counts as the owner of the partitions in ``held``; their renewal tells if a lease is
        lost. If a shard of a cluster does not answer, its partitions keep their known owners, and
        are not due.
        """
        held = frozenset(held)  # a copy, since claims are given back meanwhile
        others = [p for p in range(len(self._leases)) if p not in held]
        # The probe is a write without effect. Of all calls here, a full server refuses only that.
        probes = [self.log.probing_at(p) for p in held] if self.of_several else [self.log.probing]
        replies = await self._functions.exchange(
            [
                self._functions.command(
                    "heartbeat", (self._members, self.bell), self._member, self._lease_ms
                ),
                *(self._functions.command("owner", (self._leases[p],)) for p in others),
                *probes,
            ],
            within=self.pace,
        )
        refused = [isinstance(replies.pop(), OutOfMemoryError) for _ in probes][::-1]
        if self.of_several:
            self.full = {p for p, is_full in zip(held, refused, strict=True) if is_full}
        else:
            self.full = held if refused[0] else frozenset()
        heartbeat, *found = replies
        general = () if self.of_several else (one for one in found if not is_of_one_key(one))
        for reply in (heartbeat, *general):
            if isinstance(reply, Exception):
                raise translate(reply)
        rung, members = heartbeat
        unknown: set[int] = set()
        for partition in held:
            self._owners[partition] = self._member
        for partition, owner in zip(others, found, strict=True):
            if is_of_one_key(owner):
                self._owners[partition] = None  # the member that is due to take it logs the reason
            elif isinstance(owner, Exception):
                unknown.add(partition)
            else:
                self._owners[partition] = owner.decode() or None
        shares = fair_shares([member.decode() for member in members], self._owners)
        mine = [p for p, member in enumerate(shares) if member == self._member]
        return rung.decode(), [p for p in mine if p not in unknown]

    async def take(
        self, partitions: Sequence[int], unread: Sequence[int]
    ) -> list[tuple[int, str] | Exception | None]:
        """Take the leases of ``partitions``.

        Args:
            partitions: The partitions to take.
            unread: For each, the number of unread records that this member last knew of. They count
                as lost if the log has lost all its data.

        Returns:
            For each partition, its epoch and the id up to which all records have been delivered;
            ``None`` if another member has the lease; or the error of this partition alone.
        """
        return [
            (int(reply[0]), reply[1].decode()) if isinstance(reply, list) else reply
            for reply in await self._functions.exchange(
                [
                    self._functions.command(
                        "take",
                        (self.log.streams[p], self._leases[p]),
                        self.group,
                        consumer(p),
                        self._member,
                        self._lease_ms,
                        progress,
                        self.last_seen.last(p),
                    )
                    for p, progress in zip(partitions, unread, strict=True)
                ]
            )
        ]

    async def renew(self, claims: Sequence[RedisClaim]) -> list[Renewed | Exception]:
        """Renew leases; return for each the state of its stream, or the error."""
        replies = await self._functions.exchange(
            [
                self._functions.command(
                    "renew",
                    (claim.stream, claim.lease),
                    self.group,
                    claim.epoch,
                    self._lease_ms,
                    *self.last_seen.arguments(claim.partition),
                )
                for claim in claims
            ],
            within=self.pace,
        )
        return [
            Renewed(reply[0], reply[1], reply[2].decode(), reply[3])
            if isinstance(reply, list)
            else reply
            for reply in replies
        ]

    async def trim(self, claims: Sequence[RedisClaim]) -> list[Reply]:
        """Remove acknowledged records that are past their retention; return counts or errors."""
        return await self._functions.exchange(
            [
                claim.retention.command(
                    self._functions, claim.stream, is_full=claim.partition in self.full
                )
                for claim in claims
            ],
            within=self.pace,
        )

    async def strays(self, claims: Sequence[RedisClaim]) -> list[Reply]:
        """Return the number of records in each claim's partition that other consumers have."""
        return await self._functions.exchange(
            [
                self._functions.command(
                    "strays", (claim.stream,), self.group, consumer(claim.partition)
                )
                for claim in claims
            ],
            within=self.pace,
        )

    async def release(self, claims: Sequence[RedisClaim]) -> None:
        """Give up leases, and ring for every member to take them."""
        await self._then(
            [self._functions.command("release", (c.lease,), c.epoch) for c in claims],
            self._functions.command("ring", (self.bell,), self._member),
        )

    async def withdraw(self) -> None:
        """Give up the membership but no lease: others take each one once it is released."""
        (reply,) = await self._functions.exchange([self._leaving()])
        if isinstance(reply, Exception):
            raise translate(reply)

    async def leave(self) -> None:
        """Give up every lease and the membership."""
        await self._then(
            [self._functions.command("vacate", (key,), self._member) for key in self._leases],
            self._leaving(),
        )

    def _leaving(self) -> Command:
        return self._functions.command("leave", (self._members, self.bell), self._member)

    async def _then(self, commands: Sequence[Command], last: Command) -> None:
        """Send ``last`` after the other commands, also if they go to different servers."""
        if self.of_several:
            await self._functions.exchange(commands)
            commands = ()
        await self._functions.exchange([*commands, last])
