"""The client's side of SASL/OAUTHBEARER, told why a token is refused (RFC 7628, 3.2.3).

aiokafka's takes any first answer for a yes. A broker that refuses a token answers with the reason,
waits for one byte, and only then fails the handshake; without it the connection looks healthy, and
its first request is taken for that byte.
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
    """Let aiokafka's connections use it."""
    conn.OAuthAuthenticator = _OAuthAuthenticator
