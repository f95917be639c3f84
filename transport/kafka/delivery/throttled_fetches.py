"""Fetches that brokers hold back, since our quota is used up (KIP-219).

A broker that does so answers without records, and reads nothing more of that connection for a
while. Replacing such a client brings no records sooner: the quota is that of the next client too.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from aiokafka import AIOKafkaConsumer

__all__ = ["ThrottledFetches"]

log = logging.getLogger(__name__)

_FETCH = 1
_AGAIN = 60.0  # seconds between two warnings


class ThrottledFetches:
    """Notes how long brokers hold back the fetches of ``client``, which is not yet started."""

    _said = float("-inf")  # by any client of this process

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._until = float("-inf")
        inner = client._client  # noqa: SLF001 - no public way
        send = inner.send

        async def noting(node_id: int, request: Any, **options: Any) -> Any:
            answer = await send(node_id, request, **options)
            if getattr(answer, "API_KEY", None) == _FETCH:
                self._note(node_id, getattr(answer, "throttle_time_ms", 0) / 1000)
            return answer

        inner.send = noting

    def __bool__(self) -> bool:
        """Return whether a broker holds fetches back now."""
        return time.monotonic() < self._until

    def _note(self, node: int, seconds: float) -> None:
        if seconds <= 0:
            return
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if now - ThrottledFetches._said >= _AGAIN:
            ThrottledFetches._said = now
            log.warning(
                "Kafka slows our reading down, as our quota is used up: raise consumer_byte_rate "
                "and request_percentage of our user or client id",
                extra={"node": node, "seconds": seconds},
            )
