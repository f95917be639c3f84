"""The reuse of one token for all connections of a log, until it is replaced before its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from transport.errors import ConfigurationError, TransportUnavailable
from transport.tokens import Token, TokenProvider

__all__ = ["ReusedToken"]

log = logging.getLogger(__name__)
_USED = 0.8  # the part of a token's life after which a new one is asked for
_KEPT = 0.95  # the part that is used if no new one comes; clocks differ, and handshakes take time
_WITHIN = 10.0
_APART = 5.0  # the least seconds between two tokens that the broker refuses


class ReusedToken(AbstractTokenProvider):  # type: ignore[misc] # aiokafka is not typed
    """Gives all connections of a log one token for most of its life.

    A broker that limits a session to the token's life (KIP-368) closes the connection at its end.
    The next connection uses a new token. One is asked for well before the end, while connections go
    on with the old one. So a provider that hangs or fails for a while is not noticed by them.

    Args:
        provider: the source of tokens.
        extensions: pairs that are sent with the token (RFC 7628, 3.1).
        within: seconds that getting a token may take.
    """

    def __init__(
        self,
        provider: TokenProvider,
        *,
        extensions: Mapping[str, str] | None = None,
        within: float = _WITHIN,
    ) -> None:
        self._provider = provider
        self._extensions = dict(extensions or {})
        self._within = within
        self._value = ""
        self._since = self._renewed_at = self._until = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._is_kept = False  # for lack of a new one

    async def token(self) -> str:
        """Return a token; called by aiokafka for each connection.

        Raises:
            AuthenticationFailedError: there is no token because of a setting.
            KafkaConnectionError: the provider can't be reached now.
        """
        now = time.monotonic()
        if now >= self._renewed_at and self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(self._ended)
        if now >= self._until and self._renewal is not None:
            # A connection that gives up does not end it: the next one would begin from nothing.
            await asyncio.shield(self._renewal)
        return self._value

    def refused(self) -> None:
        """Replace the token soon, since a broker refused it before its end.

        Keys may have been rotated, or the client locked out for a time. A new token may be accepted
        by now.
        """
        self._renewed_at = self._until = min(self._until, self._since + _APART)

    def extensions(self) -> dict[str, str]:
        """Return the pairs that are sent with the token; called by aiokafka."""
        return self._extensions

    async def _renew(self) -> None:
        token = await self._new()
        self._value, self._since = token.value, time.monotonic()
        self._renewed_at = self._since + token.seconds * _USED
        self._until = self._since + token.seconds * _KEPT

    def _ended(self, renewal: asyncio.Task[None]) -> None:
        self._renewal = None
        if renewal.cancelled():
            return
        error = renewal.exception()
        if error is None and self._is_kept:
            log.info("There are new Kafka tokens again")
            self._is_kept = False
        elif error is not None and not self._is_kept and time.monotonic() < self._until:
            log.warning(
                "No new Kafka token: the one in use is kept until its end; will retry",
                extra={"error": str(error)},
            )
            self._is_kept = True

    async def _new(self) -> Token:
        # aiokafka only passes on its own errors; ``transport.kafka.client.errors`` finds the cause.
        try:
            async with asyncio.timeout(self._within):
                return await self._provider.token()
        except ConfigurationError as error:
            raise AuthenticationFailedError(str(error)) from error
        except (TransportUnavailable, TimeoutError) as error:
            raise KafkaConnectionError(str(error) or "no token in time") from error
        except Exception as error:  # a third party's provider may raise anything
            log.exception("The token provider failed")
            raise KafkaConnectionError(f"no token: the provider failed ({error!r})") from error
