"""Looks at the topics' settings while we run: others may alter them, and Kafka tells no client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient

from transport.kafka.administration.topics import TopicSpec, differences
from transport.kafka.connection.client_pool import ClientPool

__all__ = ["Alterations"]

log = logging.getLogger(__name__)

_SECONDS = 10.0  # between two looks


class Alterations:
    """Compares topics with ``specs``, at most once in ten seconds."""

    def __init__(self, admins: ClientPool[AIOKafkaAdminClient], specs: Sequence[TopicSpec]) -> None:
        self._admins = admins
        self._specs = specs
        self._found: list[str] = []
        self._looked = float("-inf")

    async def now(self) -> Sequence[str]:
        """Return every difference, as of the last look; log when they change.

        Raises:
            TransportError: Kafka can't say now, or a topic is missing.
        """
        time = asyncio.get_running_loop().time()
        if time - self._looked >= _SECONDS:
            found = await self._admins.ask(lambda admin: differences(admin, self._specs))
            self._looked = time
            if found != self._found:
                self._tell(found)
            self._found = found
        return self._found

    def _tell(self, found: Sequence[str]) -> None:
        if found:
            log.error(
                "Somebody altered Kafka's topics: alter them back, or no process starts any more",
                extra={"differences": found},
            )
        else:
            log.info("Kafka's topics are as configured again")
