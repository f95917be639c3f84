"""A client that is connected when first needed, and dropped when it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiokafka.errors import ConsumerStoppedError, KafkaError

from transport.errors import TransportUnavailable
from transport.kafka.errors import translate

__all__ = ["Lender"]

_Client = TypeVar("_Client")
_Answer = TypeVar("_Answer")


class Lender(Generic[_Client]):
    """Lends one client to any number of requests at a time, each bounded in time.

    A request that failed may have left the client stuck (aiokafka's can stall in silence, and none
    of them looks for its brokers at a new address), so the next request gets a new one.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[_Client]],
        discard: Callable[[_Client], Awaitable[None]],
        *,
        timeout: float,
    ) -> None:
        self._connect = connect
        self._discard = discard
        self._timeout = timeout
        self._client: _Client | None = None
        self._connecting = asyncio.Lock()

    async def ask(
        self, request: Callable[[_Client], Awaitable[_Answer]], *, within: float | None = None
    ) -> _Answer:
        """Make a request, to be done ``within`` so many seconds, and return its answer.

        Where the first client fails at once it is made again with a new one: aiokafka asks any node
        it has heard of, among them one that has just died.

        Raises:
            ConfigurationError: a setting keeps the client from connecting.
            TransportUnavailable: Kafka can't be reached, or did not answer well or in time.
        """
        try:
            return await self._once(request, within or self._timeout)
        except TransportUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            return await self._once(request, within or self._timeout)

    async def _once(
        self, request: Callable[[_Client], Awaitable[_Answer]], within: float
    ) -> _Answer:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            client = self._client
        try:
            async with asyncio.timeout(within):
                return await request(client)
        except (KafkaError, ConsumerStoppedError, TimeoutError, OSError) as error:
            if client is self._client:
                await self.close()
            told = translate(error)
            if not isinstance(told, TransportUnavailable):
                told = TransportUnavailable(str(told))
            raise told from error

    async def close(self) -> None:
        """Disconnect; a later request connects again."""
        client, self._client = self._client, None
        if client is not None:
            await self._discard(client)
