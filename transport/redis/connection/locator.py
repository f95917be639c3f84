"""Locators: they find the server that takes writes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from transport.errors import TransportError, TransportUnavailable
from transport.redis.connection.connection import Address, Command, RedisConnection, Reply
from transport.redis.connection.errors import is_refusal, translate

__all__ = ["Locator", "Place", "SentinelLocator", "StaticLocator", "tell"]

Place = tuple[str, int]
"""Host and port of a server."""


class Locator(Protocol):
    """Finds the server that takes writes now."""

    async def locate(self) -> Address:
        """Return the server's address.

        Raises:
            TransportUnavailable: the address can't be found out.
        """

    def close(self) -> None:
        """Close the connections that the locator uses."""


class StaticLocator:
    """Always returns the same address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def locate(self) -> Address:
        """Return the address."""
        return self._address

    def close(self) -> None:
        """Do nothing: no connection is open."""


class SentinelLocator:
    """Asks sentinels for the address of the primary, and checks that it is the only one.

    It asks all sentinels at once, and a majority of those in the settings has to name the same
    server: fewer may be cut off, and name a former primary. redis-py's Sentinel pool is not used,
    since it tries the old primary again (redis-py issues 3560 and 3874).

    While no majority names a server, the last named one is used: the sentinels may be down, and
    the primary well.

    Args:
        sentinels: The addresses of the sentinels.
        master: The name that the sentinels have for the primary.
        address: The address of the primary; its host and port are replaced.
    """

    def __init__(self, sentinels: Sequence[Address], master: str, address: Address) -> None:
        self.doubts = ""
        """Why no majority of the sentinels names a primary; empty if it does."""
        self.others: Sequence[Place] = ()
        """Servers that report the role of a primary, and are not the one that is named."""
        self._named: Place | None = None
        self._master = master
        self._address = msgspec.structs.replace(address, wants_primary=True)
        self._sentinels = ", ".join(f"{it.host}:{it.port}" for it in sentinels)
        self._addresses = sentinels
        self._connections = [RedisConnection(StaticLocator(it)) for it in sentinels]
        self._asking: asyncio.Task[Place] | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """What endangers records now, each with its remedy."""
        if self._named is None:
            return ()  # nothing can be appended, and the error of that names the reason
        named = _text(self._named)
        found = [
            f"two primaries: the sentinels name {named}, and {_text(other)} reports this role too. "
            f"What {_text(other)} acknowledges is lost when it becomes a replica: stop each client "
            f"that writes there, and see that it reaches the sentinels and {named}"
            for other in self.others
            if other != self._named  # named since they were asked
        ]
        if self.doubts:
            found.append(f"{self.doubts}; {named} is used until then, and no failover is noticed")
        return found

    async def locate(self) -> Address:
        """Return the address of the primary, or of the last one if no majority names one now.

        Concurrent callers share one answer.

        Raises:
            TransportUnavailable: no majority of the sentinels has ever named a primary.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_retrieve_error)
        host, port = await asyncio.shield(self._asking)
        return msgspec.structs.replace(self._address, host=host, port=port)

    async def find_others(self) -> None:
        """Ask every server that the sentinels know for its role, and set ``others``.

        Servers and sentinels that do not answer, or may not be asked, are left out.
        """
        replies = await asyncio.gather(*map(self._replicas, self._addresses))
        places = sorted({place for reply in replies for place in reply})
        roles = await asyncio.gather(*map(self._is_primary, places))
        primaries = [place for place, yes in zip(places, roles, strict=True) if yes]
        self.others = [place for place in primaries if place != self._named]

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for connection in self._connections:
            connection.hang_up()

    async def _ask(self) -> Place:
        asked = [asyncio.create_task(self._name_primary(it)) for it in self._connections]
        needed = len(asked) // 2 + 1
        votes: Counter[Place] = Counter()
        errors: list[TransportError] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    place = await answer
                except TransportError as error:
                    errors.append(error)
                    continue
                votes[place] += 1
                if votes[place] == needed:
                    self._named, self.doubts = place, ""
                    return place
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        named = "; ".join(f"{_text(it)} by {count}" for it, count in votes.items()) or "none"
        why = f" ({errors[0]})" if errors else ""
        self.doubts = (
            f"{votes.total()} of {len(asked)} sentinels ({self._sentinels}) name the primary "
            f"{self._master!r} ({named}), and {needed} have to name the same one: check REDIS_URL "
            f"and REDIS_SENTINEL_PASSWORD, and that they run{why}"
        )
        if self._named is not None:
            return self._named
        raise TransportUnavailable(self.doubts) from (errors[0] if errors else None)

    async def _name_primary(self, connection: RedisConnection) -> Place:
        await connection.open()
        # In contrast to SENTINEL MASTER, it names a promoted replica before the others follow it.
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
        (reply,) = await connection.exchange([command])
        if isinstance(reply, Exception):
            raise translate(reply)
        if reply is None:
            raise TransportUnavailable("a sentinel knows no primary of this name")
        host, port = reply
        return host.decode(), int(port)

    async def _replicas(self, sentinel: Address) -> list[Place]:
        # A former primary is a replica for the sentinels, whatever it reports itself.
        reply = await _reply(sentinel, ("SENTINEL", "REPLICAS", self._master))
        told = [dict(zip(it[::2], it[1::2], strict=True)) for it in reply or ()]
        return [(it[b"ip"].decode(), int(it[b"port"])) for it in told]

    async def _is_primary(self, place: Place) -> bool:
        seconds = self._addresses[0].timeout
        server = msgspec.structs.replace(
            self._address,
            host=place[0],
            port=place[1],
            timeout=seconds,
            connect_timeout=seconds,
            wants_primary=False,
            asks_who=False,
        )
        reply = await _reply(server, ("ROLE",))
        return reply is not None and reply[0] == b"master"


async def tell(address: Address, *commands: Command) -> list[Reply]:
    """Return a server's replies to ``commands``, over a new connection.

    Raises:
        TransportUnavailable: the server can't be reached.
    """
    connection = RedisConnection(StaticLocator(address))
    try:
        await connection.open()
        replies = await connection.exchange(commands)
    finally:
        connection.hang_up()
    for reply in replies:
        if isinstance(reply, Exception) and not is_refusal(reply):
            raise translate(reply)
    return replies


async def _reply(address: Address, command: Command) -> list[Any] | None:
    """Return the server's list; ``None`` if it does not answer, or forbids the command."""
    try:
        (reply,) = await tell(address, command)
    except TransportError:
        return None
    return reply if isinstance(reply, list) else None


def _text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _retrieve_error(task: asyncio.Task[Place]) -> None:
    """Retrieve the task's error, so that asyncio logs nothing if all waiters were cancelled."""
    if not task.cancelled():
        task.exception()
