"""The primaries of a cluster and the slots of each, kept as they change.

A primary that did not answer is asked until it does, and everybody for whoever is promoted in its
place, by one task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from transport.errors import TransportError, TransportUnavailable
from transport.redis.cluster.primary import ClusterPrimary, MakePool
from transport.redis.cluster.slot_map import Place, SlotMap
from transport.redis.cluster.slot_votes import ask_for_slots
from transport.redis.connection.connection import Address
from transport.redis.connection.errors import is_refusal

__all__ = ["ClusterMap"]

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_LONGEST_LOOK_SECONDS = 1.5  # for as long as a server is away, each of the others is asked


class ClusterMap:
    """The primaries that are known, by slot.

    Args:
        seeds: Where to ask for the map; any server of the cluster.
        slots: The map as it was told first.
        make: Makes a pool of connections.
        changed: Called when a slot may be on another server than before.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        slots: SlotMap,
        *,
        make: MakePool,
        changed: Callable[[], None],
    ) -> None:
        self._seeds = seeds
        self._make = make
        self._changed = changed
        self._servers: dict[Place, ClusterPrimary] = {}
        self._slots = SlotMap()
        self._moved: dict[int, Place] = {}  # that the map does not have yet
        self._looked = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._take(slots)

    @property
    def servers(self) -> list[ClusterPrimary]:
        """The primaries."""
        return list(self._servers.values())

    def server_of(self, slot: int | None) -> ClusterPrimary:
        """Return the primary that has ``slot``; ``None``: any that answers, if one does.

        Raises:
            TransportUnavailable: nobody has it.
        """
        if slot is None and self._servers:
            servers = self.servers
            return next((it for it in servers if not it.is_away), servers[0])
        place = None if slot is None else self.place_of(slot)
        if place is None:
            self.watch()
            raise TransportUnavailable(
                f"no server of the Redis Cluster has slot {slot}: give it to one (CLUSTER ADDSLOTS)"
            )
        return self.server_at(place)

    def place_of(self, slot: int) -> Place | None:
        """Return where a slot is, as far as is known."""
        return self._moved.get(slot) or self._slots.place_of(slot)

    def server_at(self, place: Place) -> ClusterPrimary:
        """Return the server at an address."""
        server = self._servers.get(place)
        if server is None:
            host, port = place
            address = msgspec.structs.replace(self._seeds[0], host=host, port=port)
            server = self._servers[place] = ClusterPrimary(address, self._make)
        return server

    def note_moved(self, slot: int, place: Place) -> None:
        """Note that a server said where a slot is."""
        if self._moved.get(slot) != place:
            self._moved[slot] = place
            self._changed()
            self.watch()

    def miss(self, server: ClusterPrimary, error: Exception) -> None:
        """Refuse what is for ``server`` until it answers again."""
        if self._servers.get((server.address.host, server.address.port)) is server:
            server.missed(error)
            self.watch()

    def watch(self) -> None:
        """Ask for the map, unless it is being asked for."""
        if self._closed:
            return  # a trip that was under way ends
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._look_for_all(), name="cluster watch")

    def watch_again(self) -> None:
        """Ask for the map, unless that was done just now."""
        if asyncio.get_running_loop().time() - self._looked >= _LOOK_SECONDS:
            self.watch()

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for server in self._servers.values():
            await server.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _look_for_all(self) -> None:
        """Ask for the map, until every primary answers and is known to have its slots."""
        pause = _LOOK_SECONDS
        while True:
            moved = dict(self._moved)
            addresses = [it.address for it in self._servers.values()]
            # At the same time: one that only closed a connection is not away for as long as another
            # one that hangs takes to be asked.
            away = [it for it in self.servers if it.is_away]
            slots, _ = await asyncio.gather(
                ask_for_slots([*addresses, *self._seeds]), _try_all(away)
            )
            if slots is not None:
                # What moved while it was told may not be in it.
                self._moved = dict(self._moved.items() - moved.items())
                self._take(slots)
                await _try_all([it for it in self.servers if not it.pool.made])  # who they are
            self._looked = asyncio.get_running_loop().time()
            if slots is not None and not any(it.is_away for it in self._servers.values()):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    def _take(self, slots: SlotMap) -> None:
        before, self._slots = self._slots, slots
        for place in slots.places:
            self.server_at(place)
        # Also where the map is as it was: of a move that was begun and given up, a server is known.
        gone = set(self._servers) - set(slots.places) - set(self._moved.values())
        for place in gone:
            task = asyncio.create_task(self._servers.pop(place).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if slots == before:
            return
        self._changed()
        if before.ranges:
            places = ", ".join(map(str, self._servers.values()))
            _log.info("The Redis Cluster's slots are on %s now", places)


async def _try_all(servers: Sequence[ClusterPrimary]) -> None:
    await asyncio.gather(*(_try(server) for server in servers))


async def _try(server: ClusterPrimary) -> None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            (reply,) = await server.pool.exchange([("TIME",)])
    except (TransportError, TimeoutError):
        return
    if not isinstance(reply, Exception) or is_refusal(reply):
        server.is_away = False
