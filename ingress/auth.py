"""API keys: who may call what.

A key is ``cf_`` and 32 random bytes; only its SHA-256 is configured. A plain hash is right here,
where a password would need a slow one: guessing 256 random bits is hopeless at any speed. Finding
a key by its digest leaks nothing through time either: without the key, no one can choose digests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from ingress.headers import Headers
from ingress.problems import FORBIDDEN, UNAUTHENTICATED, Problem
from ingress.settings import IngressSettings, is_loopback
from transport.errors import ConfigurationError

__all__ = ["ApiKey", "Authenticator", "Scope", "parse_entries"]

_RECHECK = 1.0
_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([a-z+]+):([0-9a-f]{64})")
_log = structlog.get_logger(__name__)


class Scope(StrEnum):
    """What a key may do."""

    PRODUCE = "produce"
    """Post messages and receipts."""
    READ = "read"
    """Read messages, conversations and receipts."""
    ADMIN = "admin"
    """List, read, redrive and discard dead letters; change phases. What changes is recorded."""


class ApiKey(msgspec.Struct, frozen=True):
    """One configured key; ``name`` is for logs."""

    name: str
    scopes: frozenset[Scope]


def parse_entries(text: str, source: str) -> dict[str, ApiKey]:
    """Return the keys in ``text`` by digest: entries between commas or on lines, ``#`` comments.

    Raises:
        ConfigurationError: an entry is not ``name:scope+scope:sha256hex``. The entry is not
            repeated in the message: it may be a key someone pasted in the clear.
    """
    keys: dict[str, ApiKey] = {}
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
    for number, entry in enumerate(entries, start=1):
        match = _ENTRY.fullmatch(entry)
        try:
            scopes = frozenset(Scope(scope) for scope in match[2].split("+")) if match else None
        except ValueError:
            scopes = None
        if match is None or scopes is None:
            raise ConfigurationError(
                f"{source}: entry {number} is not name:scope+scope:sha256hex with scopes out of "
                f"{', '.join(Scope)} (the SHA-256 of the key, never the key itself)"
            )
        keys[match[3]] = ApiKey(match[1], scopes)
    return keys


class Authenticator:
    """Knows the configured keys, and reads the file again when it has changed."""

    def __init__(self, settings: IngressSettings) -> None:
        given = settings.api_keys.get_secret_value() if settings.api_keys else ""
        self._fixed = parse_entries(given, "API_KEYS")
        self._path = settings.api_keys_file
        self._seen: tuple[int, int] | None = None
        self._next_check = 0.0
        self._keys: Mapping[str, ApiKey] = self._fixed
        if self._path is not None:
            self._load(self._path)
        self.required = bool(self._keys) or self._path is not None
        if not (self._keys or is_loopback(settings.host) or settings.api_keys_waived):
            raise ConfigurationError(
                f"HOST={settings.host} can be reached from other machines and "
                f"API_KEYS_FILE={self._path} holds no key: add one, or set API_KEYS_WAIVED=true"
            )

    def check(self, headers: Headers, *scopes: Scope) -> ApiKey | None:
        """Return the request's key, ``None`` where none is needed, if it has one of ``scopes``.

        Raises:
            Problem: no key, an unknown one (401), or one without any of the scopes (403).
        """
        if not self.required:
            return None
        if self._path is not None and time.monotonic() >= self._next_check:
            self._reload(self._path)
        secret = _secret(headers)
        if secret is None:
            raise Problem(
                UNAUTHENTICATED,
                "No API key was sent.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        key = self._keys.get(sha256(secret).hexdigest())
        if key is None:
            raise Problem(
                UNAUTHENTICATED,
                "The API key is not known.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if key.scopes.isdisjoint(scopes):
            scope = scopes[0]
            raise Problem(
                FORBIDDEN,
                f"The key {key.name!r} lacks the scope {scope.value!r}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return key

    def _load(self, path: Path) -> None:
        try:
            stat = path.stat()
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"API_KEYS_FILE={path} can't be read: {error}") from error
        self._keys = {**self._fixed, **parse_entries(text, f"API_KEYS_FILE={path}")}
        self._seen = (stat.st_mtime_ns, stat.st_size)

    def _reload(self, path: Path) -> None:
        self._next_check = time.monotonic() + _RECHECK
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size) == self._seen:
                return
            self._load(path)
        except (OSError, ConfigurationError) as error:
            # The keys that worked go on working: a slip of an editor must not shut everyone out.
            _log.error("api_keys_file_unusable", path=str(path), error=str(error))
        else:
            _log.info("api_keys_reloaded", keys=len(self._keys))


def _secret(headers: Headers) -> bytes | None:
    value = headers.get(b"authorization")
    if value is not None and value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return headers.get(b"x-api-key")
