"""The calls by which the members of a group share its partitions."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from redis.exceptions import OutOfMemoryError

from transport.assignment import fair_shares
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import translate
from transport.redis.delivery.claim import RedisClaim
from transport.redis.keys import TopicKeys, consumer
from transport.redis.rescue.last_seen import LastSeen

__all__ = ["RedisMembership", "Renewed"]

_LONGEST_PACE = 1.0
_LONGEST_UNRENEWED = 2.5


class Renewed(NamedTuple):
    """A stream when its lease was renewed: records unread and ever appended, the last one's id.

    ``lost`` is how many records went with a log that went back, -1 if it did not.
    """

    unread: int
    appended: int
    end: str
    lost: int


class RedisMembership:
    """One member of one group of one log. Every method raises ``TransportUnavailable``.

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
        """Seconds between two looks: a lease outlives two that fail. A server of a cluster that
        takes longer to answer is not waited for: leases at the others are renewed meanwhile."""
        self.renew_after = min(lease_ms / 4000, _LONGEST_UNRENEWED)
        """Seconds after which a look renews a lease: it outlives some looks that fail after that.
        With the renewal this member sees whether the stream lost anything."""
        self.last_seen = last_seen
        """The memory of the streams, where the group is the log's own."""
        self._functions = functions
        self._member = member
        self._lease_ms = lease_ms
        self._leases = [log.lease(p, group) for p in range(len(log.streams))]
        self._members = log.members(group)
        self.of_several = of_several
        """Whether each partition may be on another server of a cluster."""
        self._owners: list[str | None] = [None] * len(self._leases)
        self.full: AbstractSet[int] = frozenset()
        """Partitions of a server that refused a write for want of memory at the last look."""

    async def look(self, held: AbstractSet[int]) -> tuple[str, list[int]]:
        """Say that this member lives. Return the last ring's id and the partitions due to it.

        Of those in ``held`` it takes itself for the owner: that a lease is lost, its renewal tells.
        Where a shard of a cluster does not answer, owners are as they were, and nothing is due.
        """
        held = frozenset(held)  # claims are given back meanwhile
        others = [p for p in range(len(self._leases)) if p not in held]
        # With a write that a full server refuses, and that changes nothing: it refuses nothing
        # else here.
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
        for reply in replies[:1] if self.of_several else replies:
            if isinstance(reply, Exception):
                raise translate(reply)
        (rung, members), *found = replies
        unknown: set[int] = set()
        for partition in held:
            self._owners[partition] = self._member
        for partition, owner in zip(others, found, strict=True):
            if isinstance(owner, Exception):
                unknown.add(partition)
            else:
                self._owners[partition] = owner.decode() or None
        shares = fair_shares([member.decode() for member in members], self._owners)
        mine = [p for p, member in enumerate(shares) if member == self._member]
        return rung.decode(), [p for p in mine if p not in unknown]

    async def take(
        self, partitions: Sequence[int], unread: Sequence[int]
    ) -> list[tuple[int, str] | Exception | None]:
        """Take the leases of ``partitions``; return ``None`` for those that another has.

        For the others, the epoch and the id up to which everything has been delivered, or the
        error: one stream that something is wrong with must not keep us from the rest.

        ``unread`` says how many unread records this member last knew of in each, which counts as
        lost where the log has lost all its data.
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
        """Renew leases; return for each how its stream is now, or the error."""
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
        """Give up leases, and have every member look for them."""
        await self._then(
            [self._functions.command("release", (c.lease,), c.epoch) for c in claims],
            self._functions.command("ring", (self.bell,), self._member),
        )

    async def withdraw(self) -> None:
        """Give up the membership, and no lease: others take each when it is released."""
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
        """Send ``last`` after the others: to another server of a cluster perhaps."""
        if self.of_several:
            await self._functions.exchange(commands)
            commands = ()
        await self._functions.exchange([*commands, last])
