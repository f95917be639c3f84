"""The check of ``Content-Digest`` and ``Repr-Digest`` (RFC 9530): the sender's SHA-256 of a body.

Both headers are about the bytes as they came. A request carries a whole representation, and if the
body is compressed, both are digests of the compressed bytes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from hashlib import sha256

from ingress.schema.problems import DIGEST, Problem
from ingress.web.headers import Headers

__all__ = ["announced", "check", "check_body", "has_digest"]

_NAMES = {b"content-digest": "Content-Digest", b"repr-digest": "Repr-Digest"}
_SHA256 = re.compile(rb"(?:^|,)\s*sha-256=(?::([A-Za-z0-9+/=]*):\s*(?:,|;|$))?")

_LONG = 256 * 1024
"""Bytes. The digest of a body of this size or more is computed in a thread."""


def has_digest(headers: Headers) -> bool:
    """Return whether the request has one of the two headers."""
    return not _NAMES.keys().isdisjoint(headers)


async def check_body(headers: Headers, body: bytes) -> None:
    """Compare a whole body, as it came, with the digests in its headers.

    Raises:
        Problem: A digest differs, or can't be read (400).
    """
    if expected := announced(headers):
        digest = sha256(body) if len(body) < _LONG else await asyncio.to_thread(sha256, body)
        check(expected, digest.digest())


def announced(headers: Headers) -> dict[str, bytes]:
    """Return the SHA-256 of each header, by the header's name. Other algorithms are ignored.

    Raises:
        Problem: A header's SHA-256 is not in Base64, as ``sha-256=:BASE64:`` (400).
    """
    found: dict[str, bytes] = {}
    for name, shown in _NAMES.items():
        given = _SHA256.search(headers.get(name, b""))
        if given is None:
            continue
        try:
            found[shown] = base64.b64decode(given[1] or b"?", validate=True)
        except binascii.Error as error:
            detail = f"{shown} is not of the form sha-256=:BASE64:, with the SHA-256 in Base64."
            raise Problem(DIGEST, detail) from error
    return found


def check(expected: dict[str, bytes], digest: bytes) -> None:
    """Compare the SHA-256 of the bytes that came with those of the headers.

    Raises:
        Problem: One differs (400).
    """
    for name, given in expected.items():
        if given != digest:
            found = base64.b64encode(digest).decode()
            raise Problem(
                DIGEST,
                f"The received bytes have the SHA-256 {found}, which is not the one in {name}.",
            )
