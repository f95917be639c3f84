"""Removal of a log from Redis: its streams with their groups, its memories and its accounts.

The database may hold other programs' keys, and other logs whose names begin with the same letters.
So a key is removed only if its whole name is one that ``transport.redis.keys`` gives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from transport.contract import GroupStanding, Holding
from transport.redis.client.connections import RedisConnections
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys

__all__ = ["RedisLogRemoval"]

_SIDE = re.compile(
    r"\{(?P<tag>[^{}]+)\}:(memory:[01]|partitions|identity|probe|trimmed|generations|rescues"
    r"|accounts:.*)",
    re.DOTALL,
)
_SCANNED = 1000
_KINDS = {"stream": "stream", "hash": "hash", "zset": "sorted set", "string": "string"}


class RedisLogRemoval:
    """Lists and removes the keys of one log.

    ``topics``: the keys of each topic, with our group for it.
    """

    def __init__(
        self, connections: RedisConnections, topics: Sequence[tuple[TopicKeys, str]]
    ) -> None:
        self._connections = connections
        self._topics = topics
        self._streams = {stream for log, _ in topics for stream in log.streams}
        self._tags = {*self._streams, *(log.name for log, _ in topics)}

    async def groups(self) -> list[GroupStanding]:
        """Return every group; see ``transport.contract.Transport.groups``."""
        found = []
        for log, ours in self._topics:
            found += [
                GroupStanding(log.topic, group, group == ours, lag, members=0)
                for group, lag in sorted((await self._lags(log)).items())
            ]
        return found

    async def remove(self, *, dry_run: bool) -> list[Holding]:
        """Remove the log; see ``transport.contract.Transport.remove``."""
        keys = await self._keys()
        found = await self._holdings(keys)
        if dry_run:
            return found
        # Each command removes the keys of one slot, as a cluster requires: a stream goes together
        # with its accounts. So a removal that failed halfway leaves a log in which the removed
        # partitions look new.
        slots: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            slots[_tag(key)].append(key)
        for turn in (0, 1):  # one exchange each: a cluster's servers run one exchange in any order
            tags = [tag for tag in slots if self._turn(tag) == turn]
            await self._all([("UNLINK", *slots[tag]) for tag in tags])
        return found

    def _turn(self, tag: str) -> int:
        """Return 1 for the keys that show that the log exists, which are removed last; else 0."""
        return 0 if tag in self._streams else 1

    async def _keys(self) -> list[str]:
        """Return the existing keys of the log."""
        found = set()
        for log, _ in self._topics:
            for pool in self._connections.pools:
                cursor = b"0"
                while True:
                    scan = ("SCAN", cursor, "MATCH", f"*{log.name}*", "COUNT", _SCANNED)
                    cursor, page = await pool.call(*scan)
                    found |= {key.decode("utf-8", "surrogateescape") for key in page}
                    if cursor == b"0":
                        break
        return sorted(key for key in found if self._is_ours(key))

    def _is_ours(self, key: str) -> bool:
        side = _SIDE.fullmatch(key)
        return side["tag"] in self._tags if side else key in self._streams

    async def _holdings(self, keys: Sequence[str]) -> list[Holding]:
        kinds = [reply.decode() for reply in await self._all([("TYPE", key) for key in keys])]
        # An error counts as an unknown size: the user may lack the right, or the key expired.
        sizes = await self._exchange([("MEMORY", "USAGE", key) for key in keys])
        streams = [key for key in keys if key in self._streams]
        lengths = await self._all([("XLEN", key) for key in streams])
        records = dict(zip(streams, lengths, strict=True))
        found = [
            Holding(
                _KINDS.get(kind, kind),
                key,
                records=records.get(key),
                bytes=size if isinstance(size, int) else None,
            )
            for key, kind, size in zip(keys, kinds, sizes, strict=True)
        ]
        return found + [
            Holding("group", f"{group} on {log.name}")
            for log, _ in self._topics
            for group in sorted(await self._lags(log))
        ]

    async def _lags(self, log: TopicKeys) -> dict[str, int | None]:
        """Return the lag of each group of a topic, ``None`` where a stream can't tell."""
        found: dict[str, int | None] = {}
        replies = await self._exchange([("XINFO", "GROUPS", stream) for stream in log.streams])
        for reply in replies:
            if isinstance(reply, Exception):
                if "no such key" in str(reply):
                    continue
                raise translate(reply)
            for told in reply:
                group = dict(zip(told[::2], told[1::2], strict=True))
                name = group[b"name"].decode("utf-8", "surrogateescape")
                unread, before = group.get(b"lag"), found.get(name, 0)
                if unread is None or before is None:
                    found[name] = None
                else:
                    found[name] = before + unread + group[b"pending"]
        return found

    async def _all(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._exchange(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply)
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        return await self._connections.exchange(commands) if commands else []


def _tag(key: str) -> str:
    """Return the part of a key that Redis Cluster hashes."""
    side = _SIDE.fullmatch(key)
    return side["tag"] if side else key
