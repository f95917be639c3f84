"""One pipeline for each server, so that a server that hangs delays no call to another."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from transport.redis.client.connections import RedisConnections
from transport.redis.client.pipeline import Pipeline
from transport.redis.cluster.routing import parts
from transport.redis.connection.connection import Command, Reply

__all__ = ["Pipelines"]


class Pipelines:
    """Picks the ``Pipeline`` of the server that a call goes to.

    In a cluster all commands of a call belong to one slot. When a slot moves to another server,
    calls to two servers share a pipeline for a moment.
    """

    def __init__(self, connections: RedisConnections) -> None:
        self.connections = connections
        self._alone = Pipeline(connections)
        self._by_place: dict[str, Pipeline] = {}

    def exchange(self, commands: Sequence[Command]) -> Awaitable[list[Reply]]:
        """Send ``commands`` together with other calls to the same server; see ``Pipeline``."""
        cluster = self.connections.cluster
        if cluster is None:
            return self._alone.exchange(commands)
        slot, _ = next(parts(commands))
        place = cluster.place_of_slot(slot)
        pipeline = self._by_place.get(place)
        if pipeline is None:
            pipeline = self._by_place[place] = Pipeline(self.connections)
        return pipeline.exchange(commands)
