"""The day on which a TLS certificate ends, read from the certificate itself.

The ssl module tells it of a server's certificate that was checked, and of no other one.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

__all__ = ["Certificate", "valid_until", "valid_until_of_file"]


class Certificate(NamedTuple):
    """A certificate that a connection uses."""

    whose: str
    """The server's name; the setting that names the file, if it is our own."""
    ends: datetime
    is_ours: bool = False


def valid_until(der: bytes) -> datetime:
    """Return the last moment of a certificate in DER (RFC 5280, 4.1).

    Raises:
        ValueError: it is no certificate.
    """
    # A tenth of a second to import, and few commands ask.
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415

    return load_der_x509_certificate(der).not_valid_after_utc


def valid_until_of_file(path: str | Path) -> datetime:
    """Return the last moment of the first certificate in a PEM file.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificate.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    return load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
