"""Lingering: how long a broker keeps the fetches of a member that is in no hurry for records.

While records come, the broker holds them back for a while, to send them together with later ones.
While none come, the member fetches like one that does not linger: the fetch waits longer at the
broker, and the first record ends it at once. So an idle member fetches less often (a fetch costs
more with each partition in it), and still gets that record sooner.
"""
# ruff: noqa: SLF001 - aiokafka (0.14) changes no setting of a client that is started

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

__all__ = ["FETCH_WAIT_MS", "Lingering"]

FETCH_WAIT_MS = 500
"""The milliseconds that an idle fetch waits at the broker; an append ends it at once.

A partition that is resumed meanwhile joins the next fetch. After a rebalance, too, the broker
answers the next fetch only when this one has ended.
"""
_CALM_SECONDS = 2.0


class Lingering:
    """Sets the wait of a client's next fetches. A client that does not linger is left unchanged."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client
        self._usual = (client._fetch_min_bytes, client._fetch_max_wait_ms)
        self._lingers = client._fetch_min_bytes > 1
        self._came: float | None = None

    def fetched(self, *, records: bool) -> None:
        """Note whether the last fetch brought records."""
        if not self._lingers:
            return
        now = asyncio.get_running_loop().time()
        if records or self._came is None:
            self._came = now
        is_calm = now - self._came > _CALM_SECONDS
        fetcher = self._client._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = (
            (1, FETCH_WAIT_MS) if is_calm else self._usual
        )
