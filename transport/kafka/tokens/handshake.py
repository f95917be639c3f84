"""A patch of aiokafka's SASL/OAUTHBEARER client, which notices refused tokens (RFC 7628, 3.2.3).

aiokafka takes any first answer for success. A broker that refuses a token answers with the reason,
waits for one byte, and only then fails the handshake. Without that byte the connection looks
healthy, and the broker takes its first request for the byte.
"""

from __future__ import annotations

from aiokafka import conn
from aiokafka.errors import SaslAuthenticationFailed

from transport.kafka.tokens.reused import ReusedToken

__all__ = ["install"]

_GO_ON = b"\x01"


class _OAuthAuthenticator(conn.OAuthAuthenticator):  # type: ignore[misc] # aiokafka is not typed
    _refusal: str | None = None

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if payload:
            if self._refusal is not None:
                raise SaslAuthenticationFailed(self._refusal)
            self._refusal = payload.decode(errors="replace")
            provider = self._sasl_oauth_token_provider
            if isinstance(provider, ReusedToken):
                provider.refused()
            return _GO_ON, True  # the broker answers with an error, or closes the connection
        if self._refusal is not None:
            raise SaslAuthenticationFailed(self._refusal)
        answer: tuple[bytes, bool] | None = await super().step(payload)
        return answer


def install() -> None:
    """Apply the patch to all connections of this process."""
    conn.OAuthAuthenticator = _OAuthAuthenticator
