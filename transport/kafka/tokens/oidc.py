"""Tokens from an identity provider, with a client id and a secret (RFC 6749, 4.4)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import httpx

from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka.tokens.jwt_life import seconds_left
from transport.settings import TransportSettings
from transport.tokens import Token

__all__ = ["ClientCredentials"]

_UNTOLD_SECONDS = 60.0  # the assumed life of a token that does not state it
_URL = "KAFKA_OAUTH_TOKEN_URL"
_ID, _SECRET = "KAFKA_OAUTH_CLIENT_ID", "KAFKA_OAUTH_CLIENT_SECRET"
_SCOPE = "KAFKA_OAUTH_SCOPE"
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_SHOWN = 300  # characters of an unexpected answer that an error quotes


class ClientCredentials:
    """A ``TokenProvider`` that asks a token endpoint, as of Okta, Keycloak, Entra ID or Auth0.

    Raises:
        ConfigurationError: the endpoint, the id or the secret is not set.
    """

    def __init__(self, settings: TransportSettings) -> None:
        secret = settings.kafka_oauth_client_secret
        given = {
            _URL: settings.kafka_oauth_token_url,
            _ID: settings.kafka_oauth_client_id,
            _SECRET: secret.get_secret_value() if secret else None,
        }
        if missing := [name for name, value in given.items() if not value]:
            raise ConfigurationError(f"KAFKA_OAUTH_PROVIDER=oidc needs {', '.join(missing)}")
        self._url = str(given[_URL])
        if not self._url.startswith(("https://", "http://")):
            raise ConfigurationError(f"{_URL}={self._url!r} must begin with https://")
        self._credentials = httpx.BasicAuth(str(given[_ID]), str(given[_SECRET]))
        self._form = {"grant_type": "client_credentials"}
        if settings.kafka_oauth_scope:
            self._form["scope"] = settings.kafka_oauth_scope

    async def token(self) -> Token:
        """See ``TokenProvider``."""
        try:
            async with httpx.AsyncClient(follow_redirects=False) as client:
                answer = await client.post(
                    self._url,
                    data=self._form,
                    auth=self._credentials,
                    headers={"Accept": "application/json"},
                )
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise TransportUnavailable(f"no token: {self._url} can't be reached ({why})") from error
        if answer.status_code != HTTPStatus.OK:
            raise self._refused(answer)
        return self._understood(answer)

    def _refused(self, answer: httpx.Response) -> ConfigurationError | TransportUnavailable:
        code = answer.status_code
        said = _error_of(answer)
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _LATER:
            return TransportUnavailable(f"no token now: {self._url} answered {code} ({said})")
        if code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = f"check {_ID}, {_SECRET} and {_SCOPE}"
        else:
            remedy = f"check {_URL}"
        return ConfigurationError(f"no token: {self._url} answered {code} ({said}): {remedy}")

    def _understood(self, answer: httpx.Response) -> Token:
        found = _fields(answer)
        value = found.get("access_token")
        if not isinstance(value, str) or not value:
            raise ConfigurationError(
                f"no token: {self._url} answered 200 without an access_token: check {_URL}"
            )
        seconds = found.get("expires_in")
        try:
            return Token(value, float(seconds))  # type: ignore[arg-type] # tried
        except (TypeError, ValueError):  # expires_in is only recommended (RFC 6749, 5.1)
            told = seconds_left(value)
            return Token(value, _UNTOLD_SECONDS if told is None else told)


def _fields(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error_of(answer: httpx.Response) -> str:
    """Return the error in an answer (RFC 6749, 5.2), or else the beginning of its text."""
    found = _fields(answer)
    parts = [str(found[name]) for name in ("error", "error_description") if found.get(name)]
    return ": ".join(parts)[:_SHOWN] or answer.text[:_SHOWN] or "nothing said"
