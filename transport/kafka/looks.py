"""When a client goes through all of its partitions, to see for which of them there is work.

aiokafka (0.14) does so whenever something happened that it waits for (an answer, a seek, a
partition that is resumed, an assignment), and by itself each 0.2 s. With hundreds of partitions
that was most of what an idle client costs, so it does the latter less often here. Two things it
only saw by that, and is told of here:

* A leader moved. It waits for new metadata only while a partition has no leader, and else for the
  answer of a broker that may be gone in silence.
* A broker has answered, in the very turn of the event loop in which something else woke it. It has
  seen the answer then, and still takes the broker for busy: that is noted by a callback that comes
  after it, and which wakes nobody.
"""
# ruff: noqa: SLF001 - aiokafka can't be asked to wake its fetcher

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher

__all__ = ["LOOK_MS", "look_when_due"]

LOOK_MS = 1000
"""Between two looks of a client to which nothing happens."""


def look_when_due(client: AIOKafkaConsumer) -> None:
    """Let ``client``, not started yet, look at its partitions whenever there may be work."""

    def look(_cluster: object) -> None:
        if client._fetcher is not None:  # not started yet
            _wake(client._fetcher)

    client._client.cluster.add_listener(look)
    start = client.start

    async def started() -> None:
        await start()
        fetcher = client._fetcher
        fetcher._in_flight = _BusyNodes(fetcher, fetcher._in_flight)

    client.start = started


class _BusyNodes(set[object]):
    """The brokers that have not answered yet; the fetcher looks once one has."""

    def __init__(self, fetcher: Fetcher, nodes: Iterable[object]) -> None:
        super().__init__(nodes)
        self._fetcher = fetcher

    def discard(self, node: object) -> None:
        """Note that a broker has answered."""
        super().discard(node)
        _wake(self._fetcher)


def _wake(fetcher: Fetcher) -> None:
    fetcher._notify(fetcher._wait_consume_future)
