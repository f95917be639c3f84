"""When a client goes through all of its partitions, to see for which of them there is work.

aiokafka (0.14) does so whenever something happened that it waits for (an answer, a seek, a
partition that is resumed, an assignment), and by itself each 0.2 s. With hundreds of partitions
that was most of what an idle client costs, so it does the latter less often here. A leader that
moved is the one thing it only saw by that: it waits for new metadata only while a partition has no
leader, and else for the answer of a broker that may be gone in silence.
"""
# ruff: noqa: SLF001 - aiokafka can't be asked to wake its fetcher

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

__all__ = ["LOOK_MS", "look_at_new_metadata"]

LOOK_MS = 5000
"""Between two looks of a client to which nothing happens."""


def look_at_new_metadata(client: AIOKafkaConsumer) -> None:
    """Let ``client`` look at its partitions whenever it has learned where their leaders are."""

    def look(_cluster: object) -> None:
        fetcher = client._fetcher
        if fetcher is not None:  # not started yet
            fetcher._notify(fetcher._wait_consume_future)

    client._client.cluster.add_listener(look)
