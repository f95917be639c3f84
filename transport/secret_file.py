"""A secret in a file that another program may replace while we run.

Kubernetes, Docker and Vault keep secrets so, and passwords that last for minutes (of a cloud's own
identities) have to be.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from transport.errors import ConfigurationError

__all__ = ["SecretFile", "must_hold_secret", "password_of"]


class SecretFile(msgspec.Struct, frozen=True):
    """A file with one secret; ``setting`` is the variable that names it.

    Read it for each new connection.
    """

    path: str
    setting: str

    def read(self) -> str:
        """Return the secret that is there now, without the line's end.

        Raises:
            ConfigurationError: the file can't be read, or is empty.
        """
        named = f"{self.setting}={self.path!r}"
        try:
            secret = Path(self.path).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            # An error of the codec quotes what it could not read.
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise ConfigurationError(f"{named} can't be read: {why}") from error
        if not secret:
            raise ConfigurationError(f"{named} is empty: it must hold a password")
        return secret


def password_of(given: str | None, path: str | None, setting: str) -> str | SecretFile | None:
    """Return the file at ``path``, which ``setting`` names, or else the password ``given``."""
    return SecretFile(path, setting) if path else given


def must_hold_secret(path: str, setting: str, *, is_given: bool) -> None:
    """Check a setting that names a secret's file at the start. ``is_given``: also without it.

    Raises:
        ValueError: there is no secret in the file, or another in the settings.
    """
    if is_given:
        raise ValueError(f"{setting} names a password, and there is another: leave one of them out")
    try:
        SecretFile(path, setting).read()
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
