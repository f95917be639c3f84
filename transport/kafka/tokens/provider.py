"""The registry of token providers for SASL/OAUTHBEARER (RFC 7628, KIP-255).

A third party registers a provider under the entry point ``crossfade.kafka_token_providers``: a
callable that takes the log's ``TransportSettings`` and returns a ``TokenProvider``.
``KAFKA_OAUTH_PROVIDER`` names the provider to use.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from transport.errors import ConfigurationError
from transport.settings import TransportSettings
from transport.tokens import TokenProvider

__all__ = ["token_provider"]

_GROUP = "crossfade.kafka_token_providers"


def token_provider(settings: TransportSettings) -> TokenProvider:
    """Return the provider that KAFKA_OAUTH_PROVIDER names.

    Raises:
        ConfigurationError: there is no provider of that name, or it lacks a setting.
    """
    name = settings.kafka_oauth_provider
    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name not in found:
        raise ConfigurationError(
            f"KAFKA_OAUTH_PROVIDER={name!r} is not a token provider; choose one of "
            f"{', '.join(sorted(found))}, or install the package that registers it"
        )
    return cast("TokenProvider", found[name].load()(settings))
