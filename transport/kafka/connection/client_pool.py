"""A pool of one client, which is connected when first needed and replaced after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiokafka import errors

from transport.errors import TransportError, TransportUnavailable
from transport.kafka.client.errors import translate

__all__ = ["ClientPool"]

_PAUSE = 0.1
_LATE_CONNECTION = "no connection to Kafka in time"
_GETTING_READY = (
    errors.GroupCoordinatorNotAvailableError,
    errors.GroupLoadInProgressError,
    errors.NotCoordinatorForGroupError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
)
_FORBIDDEN = (
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.TopicAuthorizationFailedError,
)
_LATE = (TimeoutError, errors.KafkaTimeoutError, errors.RequestTimedOutError)


class _ClosedMeanwhileError(TransportUnavailable):
    """The pool was closed while a client connected for a request. The request is not repeated."""


_Client = TypeVar("_Client")
_Result = TypeVar("_Result")


class ClientPool(Generic[_Client]):
    """Lends one client to any number of concurrent requests, each with a time limit.

    A failed request may have left the client stuck: aiokafka's clients can stall in silence, and
    none looks for its brokers at a new address. So the next request gets a new client, unless Kafka
    answered that it forbids the request: other requests may be under way on that client.

    Args:
        connect: makes a client.
        discard: closes a client that may be stuck.
        timeout: seconds for a request, if it does not say.
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
        self._why_not = _LATE_CONNECTION
        self._closings = 0
        self._discards: set[asyncio.Task[None]] = set()

    async def ask(
        self, request: Callable[[_Client], Awaitable[_Result]], *, within: float | None = None
    ) -> _Result:
        """Make a request with a limit of ``within`` seconds, and return its answer.

        A request may wait as long for a client, and the one that makes it may take longer.

        It is repeated while Kafka is getting ready (it elects a leader, or creates the topic of
        groups for the first group). After another failure it is repeated once with a new client:
        aiokafka asks any node that it knows, also one that has just died. A request that Kafka
        forbids is not repeated.

        Raises:
            ConfigurationError: a setting keeps the client from connecting.
            TransportUnavailable: Kafka can't be reached, or did not answer well or in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (within or self._timeout)
        reconnected = False
        while True:
            try:
                return await self._once(request, deadline - loop.time())
            except _ClosedMeanwhileError:
                raise
            except TransportUnavailable as error:
                getting_ready = isinstance(error.__cause__, _GETTING_READY)
                is_final = isinstance(error.__cause__, (*_LATE, *_FORBIDDEN))
                if not getting_ready and (reconnected or is_final):
                    raise
                if loop.time() + _PAUSE > deadline:
                    raise
                reconnected = reconnected or not getting_ready
                await asyncio.sleep(_PAUSE if getting_ready else 0)

    async def connect(self) -> None:
        """Connect the client, so that the first request need not wait; raises as ``ask`` does."""

        async def nothing(_: _Client) -> None: ...

        await self.ask(nothing)

    async def _once(
        self, request: Callable[[_Client], Awaitable[_Result]], within: float
    ) -> _Result:
        client = await self._connected(within) if self._client is None else self._client
        try:
            async with asyncio.timeout(within):
                return await request(client)
        except TransportError:
            raise  # translated by the request itself
        except Exception as error:
            # Any error: aiokafka raises AttributeError for an answer that lacks an expected field.
            answered = isinstance(error, (*_GETTING_READY, *_FORBIDDEN))
            if client is self._client and not answered:
                await self.close()
            translated = translate(error)
            if not isinstance(translated, TransportUnavailable):
                translated = TransportUnavailable(str(translated))
            raise translated from error

    async def _connected(self, within: float) -> _Client:
        """Connect, or wait ``within`` seconds for the others that do so for requests of theirs."""
        try:
            async with asyncio.timeout(within):
                await self._connecting.acquire()
        except TimeoutError as error:
            raise TransportUnavailable(self._why_not) from error
        try:
            if self._client is not None:
                return self._client
            closings = self._closings
            try:
                made = await self._connect()
            except TransportError as error:
                self._why_not = str(error)
                raise
            self._why_not = _LATE_CONNECTION
            if closings != self._closings:  # ``close`` did not see this client
                await self._let_go(made)
                raise _ClosedMeanwhileError("closed while it was being connected")
            self._client = made
            return made
        finally:
            self._connecting.release()

    async def close(self) -> None:
        """Disconnect; a later request connects again."""
        self._closings += 1
        client, self._client = self._client, None
        if client is not None:
            await self._let_go(client)

    async def _let_go(self, client: _Client) -> None:
        """Close a client, even if the caller is cancelled meanwhile."""
        closing = asyncio.ensure_future(self._discard(client))
        self._discards.add(closing)
        closing.add_done_callback(self._discards.discard)
        await asyncio.shield(closing)
