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

A client that only answers questions has all of its partitions paused. At each look it waited for a
future of each of them. One wake-up when any is resumed takes the place of these, and while all are
paused and nothing else is to be done for them, it looks still less often.
"""
# ruff: noqa: SLF001 - aiokafka can't be asked to wake its fetcher

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

__all__ = ["LOOK_MS", "look_when_due"]

LOOK_MS = 1000
"""Between two looks of a client to which nothing happens."""
_NO_LEADER = -1
_CALM_LOOKS = 10
"""As many times as long where all partitions are paused: then there is nothing to be late with."""

_Wanted: TypeAlias = "dict[int, dict[str, list[tuple[int, int, int]]]]"


def look_when_due(client: AIOKafkaConsumer) -> None:
    """Let ``client``, not started yet, look at its partitions whenever there may be work."""

    def look(_cluster: object = None) -> None:
        if client._fetcher is not None:  # not started yet
            _wake(client._fetcher)

    client._client.cluster.add_listener(look)
    start, resume = client.start, client.resume

    async def started() -> None:
        await start()
        fetcher = client._fetcher
        fetcher._in_flight = _BusyNodes(fetcher, fetcher._in_flight)
        fetcher._get_actions_per_node = _Look(fetcher)

    def resumed(*partitions: TopicPartition) -> None:
        resume(*partitions)
        look()

    client.start, client.resume = started, resumed


class _Look:
    """What a fetcher finds to do when it goes through its partitions.

    Mostly that is to fetch all that are not paused, which this finds in a third of the time.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._look = fetcher._get_actions_per_node

    def __call__(self, assignment: Any) -> tuple[Any, ...]:
        """Return requests to fetch and to reset, seconds to wait, and whether a leader is unknown.

        Last the futures of paused partitions: none, since ``resume`` wakes the fetcher itself.
        """
        fetcher = self._fetcher
        wanted = self._wanted(assignment)
        if wanted is None:
            *actions, _resumed = self._look(assignment)
            return *actions, []
        requests = [
            (node, self._request(topics))
            for node, topics in wanted.items()
            if node not in fetcher._in_flight
        ]
        wait = fetcher._fetcher_timeout * (1 if wanted else _CALM_LOOKS)
        return requests, {}, wait, False, []

    def _wanted(self, assignment: Any) -> _Wanted | None:
        """Return all that are not paused, by leader and topic; ``None`` if more is to be done.

        So it is where records wait to be taken, and where a leader or a position is unknown.
        """
        fetcher = self._fetcher
        if fetcher._records or fetcher._preferred_read_replica:
            return None
        leader_of = fetcher._client.cluster.leader_for_partition
        most = fetcher._max_partition_fetch_bytes
        wanted: _Wanted = defaultdict(lambda: defaultdict(list))
        for at, state in assignment._tp_state.items():
            node, position = leader_of(at), state._position
            if node is None or node == _NO_LEADER or position is None:
                return None
            if not state._paused:
                wanted[node][at.topic].append((at.partition, position, most))
        return wanted

    def _request(self, topics: Mapping[str, list[tuple[int, int, int]]]) -> FetchRequest:
        fetcher = self._fetcher
        for partitions in topics.values():
            # The broker fills its answer from the first on: each has its turns there.
            first = random.randrange(len(partitions))  # noqa: S311 - no secret
            partitions[:] = partitions[first:] + partitions[:first]
        return FetchRequest(
            fetcher._fetch_max_wait_ms,
            fetcher._fetch_min_bytes,
            fetcher._fetch_max_bytes,
            fetcher._isolation_level,
            list(topics.items()),
            rack_id=fetcher._client_rack or "",
        )


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
