"""Tokens from a file that another program renews, as Kubernetes does for service accounts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from transport.errors import ConfigurationError
from transport.kafka.tokens.jwt_life import seconds_left
from transport.settings import TransportSettings
from transport.tokens import Token

__all__ = ["TokenFile"]

_UNTOLD_SECONDS = 60.0  # the assumed life of a token that does not state it


class TokenFile:
    """A ``TokenProvider`` that reads KAFKA_OAUTH_TOKEN_FILE for each token.

    Raises:
        ConfigurationError: the setting is not set.
    """

    def __init__(self, settings: TransportSettings) -> None:
        if not settings.kafka_oauth_token_file:
            raise ConfigurationError("KAFKA_OAUTH_PROVIDER=file needs KAFKA_OAUTH_TOKEN_FILE")
        self._path = Path(settings.kafka_oauth_token_file)

    async def token(self) -> Token:
        """See ``TokenProvider``."""
        named = f"KAFKA_OAUTH_TOKEN_FILE={str(self._path)!r}"
        try:
            value = (await asyncio.to_thread(self._path.read_text, "ascii")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{named} can't be read ({error})") from error
        if not value:
            raise ConfigurationError(f"{named} is empty: it must hold a token")
        seconds = seconds_left(value)
        if seconds is None:
            seconds = _UNTOLD_SECONDS
        if seconds <= 0:
            raise ConfigurationError(
                f"the token in {named} ended {-seconds:.0f} s ago: see why nothing renews it"
            )
        # The file may get a new token long before this one ends, and this one be revoked then.
        return Token(value, min(seconds, _UNTOLD_SECONDS))
