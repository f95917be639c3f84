"""How long a broker keeps the fetches of a member that is in no hurry for records.

While records come, it keeps them for a while, to send them together with later ones. While none
come, it sends the first at once, as to a member that does not linger, and the fetch stays there as
long as such a one's: a fetch costs the more the more partitions it names, and so the member fetches
less often, and yet hears of that record sooner.
"""
# ruff: noqa: SLF001 - aiokafka (0.14) changes no setting of a client that is started

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

__all__ = ["FETCH_WAIT_MS", "Lingering"]

FETCH_WAIT_MS = 500
"""An idle fetch waits this long at the broker; an append ends it at once.

A partition that is resumed meanwhile is only asked for after it, and after a rebalance the broker
answers the next fetch after it.
"""
_CALM_SECONDS = 2.0


class Lingering:
    """Sets what the next fetches of a client ask for. One that does not linger stays as it is."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client
        self._usual = (client._fetch_min_bytes, client._fetch_max_wait_ms)
        self._lingers = client._fetch_min_bytes > 1
        self._came: float | None = None

    def fetched(self, *, records: bool) -> None:
        """Note whether records came with what was fetched last."""
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
