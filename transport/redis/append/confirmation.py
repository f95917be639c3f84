"""Confirmation of appends by replicas (``WAIT``)."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import AskError, TryAgainError

from transport.errors import AppendUnknown
from transport.redis.client.functions import Functions
from transport.redis.cluster.routing import slot_of_key
from transport.redis.connection.connection import Command, Reply
from transport.redis.keys import TopicKeys
from transport.settings import TransportSettings

__all__ = ["Confirmation"]


class Confirmation:
    """The commands that end a trip of appends, and what their replies mean.

    ``WAIT`` counts the replicas that have the writes of its own connection. The answer to a repeat
    writes nothing, and its record may be on the primary alone. So another write goes before
    ``WAIT``: a replica that has that write has everything before it.
    """

    def __init__(self, settings: TransportSettings, log: TopicKeys) -> None:
        self._log = log
        self._replicas = settings.redis_wait_replicas
        self.commands: Sequence[Command] = ()
        """Sent after the appends, on their connection."""
        within = settings.redis_timeout_ms // 2  # the reply itself must be here in time
        self._wait: Command = ("WAIT", self._replicas, within)
        if self._replicas:
            self.commands = (log.probing, self._wait)
        self._probes = {
            slot_of_key(stream): log.probing_at(partition)
            for partition, stream in enumerate(log.streams)
        }

    def commands_at(self, slot: int) -> Sequence[Command]:
        """Return the commands for the server that has ``slot``, in a cluster."""
        return (self._probes[slot], self._wait) if self._replicas else ()

    def closing(self, functions: Functions) -> Sequence[Command]:
        """Return the commands for the server of the log's own tag, full or not."""
        if not self._replicas:
            return ()
        _, key, _, _, ms = self._log.probing
        return (functions.command("mark", (str(key),), ms), self._wait)

    def doubts_at(
        self, replies: Sequence[Reply]
    ) -> tuple[AppendUnknown | None, AppendUnknown | None]:
        """Return the errors that make appended, and repeated, records uncertain in a cluster.

        Each is ``None`` if those records are confirmed. While a slot is being moved, the write
        before ``WAIT`` may be refused. ``WAIT`` then still covers the appends, which are writes of
        its connection, but not the repeats.
        """
        doubt = self.doubt(replies)
        if doubt and isinstance(replies[0] if replies else None, AskError | TryAgainError):
            return self.doubt(replies[1:]), doubt
        return doubt, doubt

    def doubt(self, replies: Sequence[Reply]) -> AppendUnknown | None:
        """Return the error of appends that too few replicas confirmed; ``None`` if enough did."""
        if not self.commands:
            return None
        confirmed = replies[-1] if replies else 0
        cause = next((it for it in replies if isinstance(it, Exception)), None)
        if cause is None and confirmed >= self._replicas:
            return None
        said = str(cause) if cause else f"{confirmed} have in time"
        unknown = AppendUnknown(
            f"REDIS_WAIT_REPLICAS={self._replicas} replicas have to confirm an append ({said})"
        )
        unknown.__cause__ = cause
        return unknown
