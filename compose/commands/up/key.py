"""An API key for the request that ``crossfade up`` prints, if the API requires keys.

The service knows only the digests of the configured keys, so it can't print one. It makes a further
key that is valid while this process runs.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import NamedTuple

from ingress.settings import IngressSettings
from ingress.web.key_entries import ApiKey, Scope, entry_of, parse_entries

__all__ = ["PassingKey", "passing_key"]

_NAME = "crossfade-up"
_SECRET_BYTES = 32


class PassingKey(NamedTuple):
    """A key that is valid until this process ends. ``configured`` names the other keys."""

    secret: str
    api_keys: str
    """API_KEYS with the new entry."""
    configured: str


def passing_key(settings: IngressSettings) -> PassingKey | None:
    """Return a key with the rights to produce and read; ``None`` if the API requires no key.

    Raises:
        ConfigurationError: an entry of the settings is malformed.
    """
    given = settings.api_keys.get_secret_value() if settings.api_keys else ""
    keys = list(parse_entries(given, "API_KEYS").values())
    if not keys and settings.api_keys_file is None:
        return None
    secret = f"cf_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(_NAME, frozenset({Scope.PRODUCE, Scope.READ}))
    entry = entry_of(key, sha256(secret.encode()).hexdigest())
    named = [_described(key) for key in keys]
    if settings.api_keys_file is not None:
        named.append(f"those in {settings.api_keys_file}")
    return PassingKey(secret, "\n".join(filter(None, (given, entry))), ", ".join(named))


def _described(key: ApiKey) -> str:
    limits = [
        f"{name} that begin with {prefix!r}"
        for name, prefix in (
            ("senders", key.sender_prefix),
            ("conversations", key.conversation_prefix),
        )
        if prefix
    ]
    return f"{key.name} ({', '.join(limits)})" if limits else key.name
