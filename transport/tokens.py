"""Tokens for SASL/OAUTHBEARER (RFC 7628, KIP-255), and what gives them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Token", "TokenProvider"]


class Token(NamedTuple):
    """A bearer token."""

    value: str
    """The token as it is sent: a JWT for most brokers."""
    seconds: float
    """How many seconds it is valid from now on."""


class TokenProvider(Protocol):
    """Somewhere to get tokens from."""

    async def token(self) -> Token:
        """Return a new token.

        Raises:
            ConfigurationError: it is refused for a reason that a setting names.
            TransportUnavailable: its source can't be reached now.
        """
        ...
