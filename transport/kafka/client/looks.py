"""Looks: how often a client goes through all of its partitions to find work.

aiokafka (0.14) looks after each event that it waits for (an answer, a seek, a resumed partition, an
assignment), and also every 0.2 s. With hundreds of partitions these periodic looks were most of the
cost of an idle client, so here they are rarer. aiokafka noticed two things only by them, so here
they wake the client:

* A leader moved. aiokafka waits for new metadata only while a partition has no leader; otherwise it
  waits for the answer of a broker, which may have gone in silence.
* A broker answered in the same turn of the event loop in which something else woke the client. The
  client has seen the answer, but still takes the broker for busy: a callback notes the answer
  later, and wakes nobody.

A client that only answers requests has all of its partitions paused. At each look it waited for one
future of each of them. Here one wake-up replaces these, when any partition is resumed. While all
are paused and there is no other work for them, it looks still less often.
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
"""The milliseconds between two looks of an idle client."""
_NO_LEADER = -1
_CALM_LOOKS = 10
"""The factor by which that time is longer while all partitions are paused: nothing can be late."""

_Wanted: TypeAlias = "dict[int, dict[str, list[tuple[int, int, int]]]]"


def look_when_due(client: AIOKafkaConsumer) -> None:
    """Make ``client``, not yet started, look at its partitions whenever there may be work."""

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
    """One look of a fetcher at its partitions.

    Mostly the result is to fetch all partitions that are not paused. For that case this takes a
    third of aiokafka's time.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._look = fetcher._get_actions_per_node

    def __call__(self, assignment: Any) -> tuple[Any, ...]:
        """Return requests to fetch and to reset, seconds to wait, and whether a leader is unknown.

        The last item is the futures of paused partitions: none, since ``resume`` wakes the fetcher.
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
        """Return all partitions that are not paused, by leader and topic.

        ``None`` if there is other work: records wait to be taken, or a leader or a position is
        unknown.
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
            # The broker fills its answer in the order of the request. So vary the first partition.
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
    """The brokers that have not answered yet. An answer wakes the fetcher."""

    def __init__(self, fetcher: Fetcher, nodes: Iterable[object]) -> None:
        super().__init__(nodes)
        self._fetcher = fetcher

    def discard(self, node: object) -> None:
        """Note that a broker has answered, and wake the fetcher."""
        super().discard(node)
        _wake(self._fetcher)


def _wake(fetcher: Fetcher) -> None:
    fetcher._notify(fetcher._wait_consume_future)
