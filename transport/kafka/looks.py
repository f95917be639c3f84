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

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition

__all__ = ["LOOK_MS", "look_when_due"]

LOOK_MS = 1000
"""Between two looks of a client to which nothing happens."""
_CALM_LOOKS = 10
"""As many times as long where all partitions are paused: then there is nothing to be late with."""


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
    """What a fetcher finds to do when it goes through its partitions."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._look = fetcher._get_actions_per_node

    def __call__(self, assignment: Any) -> tuple[Any, ...]:
        """Return requests to fetch and to reset, seconds to wait, and whether a leader is unknown.

        Last the futures of paused partitions: none, since ``resume`` wakes the fetcher itself.
        """
        if self._is_calm(assignment):
            return [], {}, _CALM_LOOKS * self._fetcher._fetcher_timeout, False, []
        *actions, _resumed = self._look(assignment)
        return *actions, []

    def _is_calm(self, assignment: Any) -> bool:
        """Return whether all are paused, hold nothing, and know their positions and leaders."""
        leader_of = self._fetcher._client.cluster.leader_for_partition
        return not self._fetcher._records and all(
            state._paused and state._position is not None and leader_of(at) not in (None, -1)
            for at, state in assignment._tp_state.items()
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
