"""Tokens for SASL/OAUTHBEARER (RFC 7628, KIP-255), and the interface of their providers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Token", "TokenProvider"]


class Token(NamedTuple):
    """A bearer token."""

    value: str
    """The token to send; for most brokers a JWT."""
    seconds: float
    """The seconds for which it is valid from now on."""


class TokenProvider(Protocol):
    """A source of tokens."""

    async def token(self) -> Token:
        """Return a new token.

        Raises:
            ConfigurationError: there is no token because of a setting.
            TransportUnavailable: the source can't be reached now.
        """
        ...
