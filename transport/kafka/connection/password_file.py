"""A patch of aiokafka's SASL clients, which take a password that is read for each connection.

aiokafka keeps the password with which a client was made, and passes it to each connection.
"""

from __future__ import annotations

from typing import Any

from aiokafka import conn
from aiokafka.errors import AuthenticationFailedError

from transport.errors import ConfigurationError
from transport.secret_file import SecretFile

__all__ = ["install"]


class _PlainAuthenticator(conn.SaslPlainAuthenticator):  # type: ignore[misc] # aiokafka is not typed
    def __init__(self, *, sasl_plain_password: str | SecretFile, **options: Any) -> None:
        super().__init__(sasl_plain_password=_present(sasl_plain_password), **options)


class _ScramAuthenticator(conn.ScramAuthenticator):  # type: ignore[misc] # aiokafka is not typed
    def __init__(self, *, sasl_plain_password: str | SecretFile, **options: Any) -> None:
        super().__init__(sasl_plain_password=_present(sasl_plain_password), **options)


def install() -> None:
    """Apply the patch to all connections of this process."""
    conn.SaslPlainAuthenticator = _PlainAuthenticator
    conn.ScramAuthenticator = _ScramAuthenticator


def _present(password: str | SecretFile) -> str:
    if isinstance(password, str):
        return password
    try:
        return password.read()
    except ConfigurationError as error:  # aiokafka only passes on its own errors
        raise AuthenticationFailedError(str(error)) from error
