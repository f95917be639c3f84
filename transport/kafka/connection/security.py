"""Options for security: TLS, and authentication with a certificate, a password or a token."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from transport.errors import ConfigurationError
from transport.kafka.tokens.provider import token_provider
from transport.kafka.tokens.reused import ReusedToken
from transport.secret_file import password_of
from transport.settings import TransportSettings
from transport.tls_files import client_context

__all__ = ["OPTIONS", "security_options", "ssl_context"]

OPTIONS = frozenset(
    (
        "security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username",
        "sasl_plain_password", "sasl_oauth_token_provider",
    )
)  # fmt: skip
"""The names of the options that ``security_options`` may return."""


def security_options(settings: TransportSettings) -> dict[str, Any]:
    """Return the options of aiokafka's clients that concern security.

    Call it once for each log, so that all clients of the log share one token.

    Raises:
        ConfigurationError: a file that the settings name can't be used, or the token provider
            does not exist.
    """
    options: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if not settings.kafka_security_protocol.startswith("SASL"):
        return options
    options["sasl_mechanism"] = settings.kafka_sasl_mechanism
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = ReusedToken(
            token_provider(settings), extensions=settings.token_extensions
        )
        return options
    password = settings.kafka_sasl_password
    return options | {
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": password_of(
            password.get_secret_value() if password else None,
            settings.kafka_sasl_password_file,
            "KAFKA_SASL_PASSWORD_FILE",
        ),
    }


def ssl_context(settings: TransportSettings) -> ssl.SSLContext | None:
    """Return the TLS context for the brokers; ``None`` if the protocol has no TLS.

    It has our own certificate if KAFKA_SSL_CERTFILE is set, for brokers that ask for one.

    Raises:
        ConfigurationError: a file can't be used.
    """
    if "SSL" not in settings.kafka_security_protocol:
        return None
    chain, key = settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile

    def show(context: ssl.SSLContext) -> None:
        if chain is not None:
            _show_certificate(context, settings, chain)

    authorities = settings.kafka_ssl_cafile
    return client_context(authorities, (chain, key), show, field="KAFKA_SSL_CAFILE")


def _show_certificate(context: ssl.SSLContext, settings: TransportSettings, chain: str) -> None:
    """Load our certificate and its key into ``context``.

    An encrypted key without a password in the settings is an error. (OpenSSL would ask for the
    password on a terminal, which a service does not have.)
    """
    key = settings.kafka_ssl_keyfile or chain
    password = settings.kafka_ssl_keyfile_password
    secret = password.get_secret_value() if password else ""
    for name, path in (("CERTFILE", chain), ("KEYFILE", key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"KAFKA_SSL_{name}={path!r} can't be read ({error})"
            ) from error
    try:
        context.load_cert_chain(chain, key, lambda: secret)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"KAFKA_SSL_CERTFILE={chain!r} and KAFKA_SSL_KEYFILE={key!r} can't be used ({error}): "
            "they must be PEM files, the key must be the certificate's, and an encrypted key needs "
            "KAFKA_SSL_KEYFILE_PASSWORD"
        ) from error
