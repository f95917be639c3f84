"""The day on which a TLS certificate ends, read from the certificate itself.

The ssl module tells it of a server's certificate that was checked, and of no other one.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

__all__ = ["Certificate", "valid_until", "valid_until_of_file"]

_UTC_TIME = 0x17  # with two digits for the year
_VERSION = 0xA0
_LONG = 0x80
_PIVOT = "50"  # RFC 5280, 4.1.2.5.1: from here on the two digits mean the last century
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


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
    try:
        at = _inside(der, _inside(der, 0))  # the signed part of it
        if der[at] == _VERSION:
            at = _after(der, at)
        for _serial_number_algorithm_issuer in range(3):
            at = _after(der, at)
        at = _after(der, _inside(der, at))  # past the first moment
        text = der[_inside(der, at) : _after(der, at)].decode("ascii")
        if der[at] == _UTC_TIME:
            text = f"{'20' if text < _PIVOT else '19'}{text}"
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except IndexError as error:
        raise ValueError("it is no certificate") from error


def valid_until_of_file(path: str | Path) -> datetime:
    """Return the last moment of the first certificate in a PEM file.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificate.
    """
    _, begin, rest = Path(path).read_text("utf-8", "replace").partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    return valid_until(ssl.PEM_cert_to_DER_cert(f"{begin}{body}{end}"))


def _inside(der: bytes, at: int) -> int:
    """Return where the content of the element at ``at`` begins."""
    length = der[at + 1]
    return at + 2 + (length - _LONG if length > _LONG else 0)


def _after(der: bytes, at: int) -> int:
    """Return where the element at ``at`` ends."""
    start, length = _inside(der, at), der[at + 1]
    if length > _LONG:
        length = int.from_bytes(der[at + 2 : start], "big")
    return start + length
