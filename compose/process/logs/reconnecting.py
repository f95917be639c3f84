"""A transport that connects later, so that the service can start while its log is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Self

import structlog

from transport.backoff import Backoff
from transport.contract import Transport
from transport.errors import ConfigurationError, TransportError, TransportUnavailable
from transport.features.observed import AppendObserver, ObservedTransport

__all__ = ["ReconnectingTransport"]

log = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_OPTIONAL_SECONDS = 2.0
_NEEDED_SECONDS = 5.0
_LOG_AGAIN_SECONDS = 60.0


class ReconnectingTransport(ObservedTransport):
    """The transport ``inner``; until it connects, every call fails with ``TransportUnavailable``.

    So health answers from the first second, readiness names the log, and a POST gets 503.

    Entering tries to connect for five seconds at most (two for a log that is not ``needed``): a
    server may be silent, and health must answer meanwhile. ``connect`` goes on trying. It waits
    for outages only: with a setting that can't work it raises the error if the log is ``needed``;
    else it logs the error and tries again.

    Args:
        inner: The transport.
        needed: Whether the process can't work without this log.
        observers: Notified of each append.
    """

    def __init__(
        self, inner: Transport, *, needed: bool = True, observers: Sequence[AppendObserver] = ()
    ) -> None:
        super().__init__(inner, observers)
        self._needed = needed
        self._first: asyncio.Task[None] | None = None
        self._connected = False
        self._error = "not connected yet"
        self._logged = ""
        self._logged_at = 0.0

    async def __aenter__(self) -> Self:
        """Try to connect once; ``connect`` goes on trying."""
        self._first = asyncio.create_task(self._try())
        try:
            seconds = _NEEDED_SECONDS if self._needed else _OPTIONAL_SECONDS
            await asyncio.wait([self._first], timeout=seconds)
        except asyncio.CancelledError:
            await self._end_first()
            raise
        if self._first.done():
            self._first.result()
        else:
            self._error = f"{self.name} has not answered within {seconds:g} s"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end_first()
        if self._connected:
            self._connected = False
            await self.inner.__aexit__(*exc)

    async def connect(self) -> None:
        """Return once connected, however long that takes.

        Raises:
            ConfigurationError: the log is needed, and a setting or the server's state can't work.
        """
        if self._connected:
            return
        if self._first is not None:
            if not self._first.done():
                self._log_error()
            await self._once(asyncio.shield(self._first))
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not self._connected:
            self._log_error()
            await asyncio.sleep(backoff.next())
            await self._once(self._try())
        log.info("The log is available", transport=self.name)

    async def _once(self, attempt: Awaitable[None]) -> None:
        try:
            await attempt
        except ConfigurationError as error:
            if self._needed:
                raise
            self._error = str(error)

    async def _try(self) -> None:
        try:
            await self.inner.__aenter__()
        except TransportError as error:
            self._error = str(error)
            if isinstance(error, ConfigurationError):
                raise
        else:
            self._connected = True

    def _log_error(self) -> None:
        """Log why the transport is not connected: a new reason at once, the same every minute."""
        now = time.monotonic()
        if self._error == self._logged and now - self._logged_at < _LOG_AGAIN_SECONDS:
            return
        self._logged, self._logged_at = self._error, now
        log.warning("The log is not available yet", transport=self.name, error=self._error)

    async def _end_first(self) -> None:
        if self._first is not None and not self._first.done():
            self._first.cancel()
            await asyncio.wait([self._first])

    def _ready(self) -> Transport:
        if not self._connected:
            raise TransportUnavailable(self._error)
        return self.inner
