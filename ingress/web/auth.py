"""Authentication by API keys.

A key is ``cf_`` and 32 random bytes; only its SHA-256 is configured. A password would need a slow
hash; a key does not, because nobody can guess 256 random bits at any speed. The look-up of a key by
its digest leaks nothing through its duration: without a key, nobody can choose digests.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import structlog

from ingress.schema.problems import FORBIDDEN, MALFORMED_REQUEST, UNAUTHENTICATED, Problem
from ingress.settings import IngressSettings, is_loopback
from ingress.web.headers import Headers
from ingress.web.key_entries import ApiKey, Scope, parse_entries
from transport.errors import ConfigurationError

__all__ = ["ApiKey", "Authenticator", "Scope", "sent_key"]

_RECHECK = 1.0
_log = structlog.get_logger(__name__)


class Authenticator:
    """Checks requests against the configured keys; reads the keys file again when it changes."""

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

    def check(self, headers: Headers, *scopes: Scope, limited: bool = False) -> ApiKey | None:
        """Return the request's key, or ``None`` if no keys are needed.

        Args:
            headers: The request's headers.
            scopes: The key needs one of these.
            limited: Whether a key with a prefix is allowed. The caller then compares the prefix
                with the senders and conversations of the request.

        Raises:
            Problem: The request has two keys (400), no key or an unknown one (401), or the key has
                none of ``scopes``, or has a prefix and ``limited`` is false (403).
        """
        if not self.required:
            return None
        if self._path is not None and time.monotonic() >= self._next_check:
            self.reload()
        secret = sent_key(headers)
        if secret is None:
            raise Problem(
                UNAUTHENTICATED,
                "No API key was sent.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if headers.get(b"x-api-key", secret) != secret:
            detail = "Authorization and X-API-Key have different keys. Send one of them."
            raise Problem(MALFORMED_REQUEST, detail)
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
        if not limited:
            key.refuse_limited()
        return key

    def _load(self, path: Path) -> None:
        try:
            stat = path.stat()
            text = path.read_text("utf-8")
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"API_KEYS_FILE={path} does not exist: make a key and the file with "
                f"`crossfade keys new NAME --file {path}`"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"API_KEYS_FILE={path} can't be read: {error}") from error
        self._keys = {**self._fixed, **parse_entries(text, f"API_KEYS_FILE={path}")}
        self._seen = (stat.st_mtime_ns, stat.st_size)

    def reload(self) -> None:
        """Read the keys file again if it has changed. ``check`` calls this at most each second."""
        path = self._path
        if path is None:
            return
        self._next_check = time.monotonic() + _RECHECK
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size) == self._seen:
                return
            self._load(path)
        except (OSError, ConfigurationError) as error:
            # The keys from before stay valid: a mistake in the file must not lock everyone out.
            _log.error(
                "API keys not reloaded: the earlier keys stay valid; correct API_KEYS_FILE",
                path=str(path),
                error=str(error),
            )
        else:
            _log.info("API keys reloaded", keys=len(self._keys))


def sent_key(headers: Headers) -> bytes | None:
    """Return the key in the headers, if any. Other credentials are a proxy's, and ignored."""
    value = headers.get(b"authorization")
    if value is not None and value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return headers.get(b"x-api-key")
