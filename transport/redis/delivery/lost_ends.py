"""Readers whose last record a failover lost: the log must not be read on from there.

A promoted replica that was behind, or a server with an older file, may have given the next ids to
other records. A reader that continues after a lost record would skip those of them that are lower.
"""

from __future__ import annotations

from transport.errors import TransportUnavailable
from transport.redis.client.functions import Functions
from transport.redis.cluster.slot_map import Place
from transport.redis.connection.connection import ServerIdentity
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys, trimmed

__all__ = ["LostEnds"]


class LostEnds:
    """Checks, once after each change of a server, that the record a reader is at is still there.

    ``functions`` calls Crossfade's functions.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._servers: dict[Place | None, ServerIdentity] = {}
        self._changes = 0
        self._checked: dict[str, int] = {}

    def note_server(self, identity: ServerIdentity, place: Place | None = None) -> None:
        """Note the identity of the server that a connection was made to, at its place.

        If it is unknown, the server may have changed: the user may not ask for it.
        """
        before = self._servers.get(place)
        if before is not None and (before.server != identity.server or not identity.server):
            self._changes += 1
        self._servers[place] = identity

    async def check(self, log: TopicKeys, partition: int, after: str | None) -> None:
        """Check the record at ``after``, if that is due. Call it after the read.

        Raises:
            TransportUnavailable: the record is lost, or the server can't be asked.
        """
        stream, changes = log.streams[partition], self._changes
        if after is None or self._checked.get(stream, 0) == changes:
            return
        asked = self._functions.command("lacks", (stream, trimmed(stream)), after)
        (reply,) = await self._functions.exchange([asked])
        if isinstance(reply, Exception):
            raise translate(reply)
        self._checked[stream] = changes
        if reply:
            raise TransportUnavailable(
                f"{stream} lost its tail in a failover or a restore, with the record {after} that "
                "was read last: read again from a settled position that it still has"
            )
