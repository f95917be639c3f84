"""Rescues in a cluster: one for each partition, since each partition is in a slot of its own.

All keys of a rescue are in the partition's slot, so they move with it. A partition is on another
server than before either because its slot was moved, or because a replica was promoted. Only the
promotion can lose records. The slot counts as moved if the new server was already known as a
primary, was no replica of the old one, and the old one is still a primary. In any doubt there is a
rescue, which then finds no record gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from transport.errors import TransportError
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import Cluster
from transport.redis.cluster.slot_map import Place
from transport.redis.connection.connection import ServerIdentity
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys
from transport.redis.rescue.calls import Append, of_last_day, total_of
from transport.redis.rescue.recent_appends import RecentAppendsBudget
from transport.redis.rescue.rescue import REFUSED_AFTER, Rescue

__all__ = ["ShardRescues"]


class ShardRescues:
    """See ``Rescue``; one for each partition of ``log``.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        cluster: Returns the cluster, or ``None`` if there is none.
        seconds: How long appends are kept; 0: there is no rescue.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        cluster: Callable[[], Cluster | None],
        seconds: float,
    ) -> None:
        self._log = log
        self._cluster = cluster
        self._known: set[str] = set()  # replication ids of primaries
        budget = RecentAppendsBudget()
        self._rescues = [
            Rescue(
                functions,
                log.of_partition(partition),
                seconds=seconds,
                is_move=self._is_move,
                budget=budget,
            )
            for partition in range(len(log.streams))
        ]

    def of(self, partition: int) -> Rescue:
        """Return the rescue of a partition."""
        return self._rescues[partition]

    def begin(self, append: Append, note: Callable[[int], None]) -> None:
        """Use ``append`` to append lost records again, and call ``note`` with their number."""
        for rescue in self._rescues:
            rescue.begin(append, note)

    def note_server(self, place: Place, identity: ServerIdentity) -> None:
        """Note the identity of a primary that a connection was made to, for its partitions."""
        cluster = self._cluster()
        for partition, stream in enumerate(self._log.streams):
            if cluster is not None and cluster.is_on(stream, place):
                self._rescues[partition].note_server(identity)
        self._known.add(identity.server)

    async def wait(self, partitions: Collection[int]) -> dict[int, TransportError]:
        """Wait for the rescues of ``partitions``; return the errors of those that are not over."""
        awaited = [p for p in partitions if self._rescues[p].is_under_way]
        if not awaited:
            return {}
        told = await asyncio.gather(*(self._wait(partition) for partition in awaited))
        return {p: error for p, error in zip(awaited, told, strict=True) if error is not None}

    async def close(self) -> None:
        """End the rescues under way."""
        await asyncio.gather(*(rescue.close() for rescue in self._rescues))

    async def age(self, partition: int) -> TransportError | None:
        """Note that the server took a write; return the error if a rescue is under way."""
        if error := await self._wait(partition, within=0.0):
            return error
        self._rescues[partition].recent.age()
        return None

    async def rescued(self, cluster: Cluster) -> int:
        """Return how many records of all shards were appended again in the last day.

        Raises:
            TransportError: no server answers.
        """
        keys = [rescue.counted_at for rescue in self._rescues if rescue.server]
        if not keys:
            return 0
        replies = await cluster.exchange([of_last_day(key) for key in keys])
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if len(errors) == len(replies):
            raise translate(errors[0])
        return sum(total_of(reply) for reply in replies if not isinstance(reply, Exception))

    async def _wait(self, partition: int, within: float = REFUSED_AFTER) -> TransportError | None:
        try:
            await self._rescues[partition].wait(within=within)
        except TransportError as error:
            return error
        return None

    def _is_move(self, before: str, identity: ServerIdentity) -> bool:
        cluster = self._cluster()
        return (
            cluster is not None
            and identity.server in self._known
            and identity.former != before
            and cluster.has(before)
        )
