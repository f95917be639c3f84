"""The time for which a TLS certificate is valid, read from the certificate itself.

The ssl module tells it of a server's certificate that was checked, and of no other one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Certificate", "certificate_in_file", "certificate_of"]

_SOON = timedelta(days=21)


class Certificate(NamedTuple):
    """A certificate that a connection uses."""

    whose: str
    """The server's name; the setting that names the file, if it is our own."""
    begins: datetime
    ends: datetime
    is_ours: bool = False

    @property
    def overdue(self) -> datetime:
        """The moment from which it should have been renewed: 21 days before its end.

        A certificate of days or hours is renewed much later, mostly after two thirds of its time.
        So the moment is never before three quarters of it.
        """
        return self.ends - min(_SOON, (self.ends - self.begins) / 4)


def certificate_of(whose: str, der: bytes) -> Certificate:
    """Return a server's certificate, which is given in DER (RFC 5280, 4.1).

    Raises:
        ValueError: it is no certificate.
    """
    # A tenth of a second to import, and few commands ask.
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415

    return _of(whose, load_der_x509_certificate(der))


def certificate_in_file(setting: str, path: str | Path) -> Certificate:
    """Return our own certificate, the first one in the PEM file that ``setting`` names.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificate.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    found = _of(setting, load_pem_x509_certificate(Path(path).read_bytes()))
    return found._replace(is_ours=True)


def _of(whose: str, read: x509.Certificate) -> Certificate:
    return Certificate(whose, read.not_valid_before_utc, read.not_valid_after_utc)
