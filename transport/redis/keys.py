"""Every name this transport uses in Redis.

========================================  ==============================================
``msg:stream:{p}``                        stream: partition p of the messages log
``msg:dlq``                               stream: the dead letters
``{msg:stream}:memory:0`` and ``:1``      hash: by message id its offset, and the answer to a repeat
``{<stream>}:memory:0`` and ``:1``        the same, of one partition: in a cluster
``{<stream>}:accounts:<group>``           hash: the published position, and losses (lua/)
``{<stream>}:generations``                hash: the generations of the stream's ids (lua/)
``{<stream>}:trimmed``                    string: the last id that we trimmed, and how many in all
``{msg:stream}:partitions``               string: how many partitions this log was made with
``{msg:stream}:identity``                  string: the UUID of this log
``{msg:stream}:rescues``                  sorted set: records appended again, a day, by the time
``{msg:stream}:probe``                    string: written to test for writes; expires
``{<stream>}:rescues``                    in a cluster: the last two, for one partition
``{<stream>}:probe``
========================================  ==============================================

The log ``redis@32`` has ``msg:stream@32`` and ``msg:dlq@32`` in place of ``msg:stream`` and
``msg:dlq`` in all of these, so it shares a database with ``redis`` and no key.

``{p}`` above stands for a number. Other braces are literal hash tags: a Redis Cluster hashes only
the text inside them. So a partition's side keys live in the slot of its stream, and one function
may touch them together. ``msg:dlq`` has the same side keys, with its own name in the braces.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from transport.contract import Topic

__all__ = ["TopicKeys", "dead_letter_log", "generations", "messages_log", "trimmed"]


_PROBE_MS = 60_000


class TopicKeys(msgspec.Struct, frozen=True):
    """The names of one topic's keys."""

    topic: Topic
    name: str
    streams: Sequence[str]

    @property
    def count(self) -> str:
        """The key of the number of partitions that the log was made with."""
        return f"{{{self.name}}}:partitions"

    @property
    def identity(self) -> str:
        """The key of the log's UUID."""
        return f"{{{self.name}}}:identity"

    @property
    def probing(self) -> tuple[str | int, ...]:
        """The command that tests whether the server takes writes, by writing a key that expires."""
        return ("SET", f"{{{self.name}}}:probe", "1", "PX", _PROBE_MS)

    def probing_at(self, partition: int) -> tuple[str | int, ...]:
        """Return the command that tests for writes on the server of ``partition``, in a cluster."""
        return ("SET", f"{{{self.streams[partition]}}}:probe", "1", "PX", _PROBE_MS)

    def of_partition(self, partition: int) -> TopicKeys:
        """Return these names with the rescues' key in the partition's slot."""
        return msgspec.structs.replace(self, name=self.streams[partition])

    @property
    def rescues(self) -> str:
        """The key of the records that rescues of the last day appended again."""
        return f"{{{self.name}}}:rescues"

    def accounts(self, partition: int, group: str) -> str:
        """Return the key of the accounts of ``partition`` and ``group`` (lua/accounts.lua)."""
        return f"{{{self.streams[partition]}}}:accounts:{group}"

    def figures(self, partition: int, group: str) -> tuple[str, str, str]:
        """Return the keys by which the records of ``partition`` are counted for ``group``."""
        stream = self.streams[partition]
        return stream, self.accounts(partition, group), generations(stream)

    def memories(self, partition: int | None = None) -> tuple[str, str]:
        """Return the keys of the two hashes that remember message ids (lua/append.lua).

        ``partition``: ``None`` for the pair of the whole log, with which one call appends to all
        partitions. In a cluster each partition has its own pair, in the slot of its stream.
        """
        tag = self.name if partition is None else self.streams[partition]
        return f"{{{tag}}}:memory:0", f"{{{tag}}}:memory:1"


def trimmed(stream: str) -> str:
    """Return the key of what we trimmed from ``stream``: the last id, and the number."""
    return f"{{{stream}}}:trimmed"


def generations(stream: str) -> str:
    """Return the key of the generations of the ids of ``stream`` (lua/generations.lua)."""
    return f"{{{stream}}}:generations"


def messages_log(partitions: int, suffix: str = "") -> TopicKeys:
    """Return the names of the messages log; ``suffix`` is the suffix of the log's name."""
    name = f"msg:stream{suffix}"
    streams = [f"{name}:{p}" for p in range(partitions)]
    return TopicKeys(topic=Topic.MESSAGES, name=name, streams=streams)


def dead_letter_log(suffix: str = "") -> TopicKeys:
    """Return the names of the dead-letter log."""
    name = f"msg:dlq{suffix}"
    return TopicKeys(topic=Topic.DEAD_LETTERS, name=name, streams=[name])
