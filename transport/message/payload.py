"""Payloads: content that is kept outside the log. The record has a key in place of it.

Nothing here knows where it is kept.
"""

from __future__ import annotations

import codecs
from hashlib import sha256

import msgspec

__all__ = ["MOST_BYTES", "ContentDigest", "Payload", "payload_key", "sha256_in"]

MOST_BYTES = 5 * 10**9
"""The largest payload: what S3 copies in one request, and what a worker hashes in a minute."""

_LONGEST_AS_JSON = 2**20
"""Bytes of the largest text that has the fingerprint of version 1. It is what a request in JSON
may have by default; of larger text, to write all control characters as JSON does takes seconds."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """Content outside the log, as its record names it.

    ``sha256`` is of the content, in lower-case hexadecimal. ``fingerprint`` is the message's, which
    can't be computed from the record alone.
    """

    key: str
    bytes: int
    sha256: str
    fingerprint: str


def payload_key(message_id: str, sha256: str) -> str:
    """Return the key of a message's content.

    A retry writes the same bytes under it, another body of the same message has another one, and
    all content of a message is under one prefix.
    """
    return f"{message_id}/{sha256}"


def sha256_in(key: str) -> str:
    """Return the SHA-256 that a payload's key ends with."""
    return key.rpartition("/")[2]


class ContentDigest:
    """Computes what a message says of its content, while the content comes in pieces.

    Content is text if its bytes are UTF-8 without U+0000, whatever its media type.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.is_text = True
        self._sha256 = sha256()
        self._written = sha256(b'["')  # of the JSON that ``Message.fingerprint`` is the digest of
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self.bytes += len(data)
        self._sha256.update(data)
        if self.is_text:
            self._add_text(data, final=False)

    def _add_text(self, data: bytes, *, final: bool) -> None:
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self.is_text = False
            return
        if "\0" in text:
            self.is_text = False
            return
        if self.bytes <= _LONGEST_AS_JSON:
            self._written.update(msgspec.json.encode(text)[1:-1])

    @property
    def sha256(self) -> str:
        """SHA-256 of what came so far, in lower-case hexadecimal."""
        return self._sha256.hexdigest()

    def ends_as_text(self) -> bool:
        """Return whether all of it is text, now that nothing more comes."""
        if self.is_text:
            self._add_text(b"", final=True)
        return self.is_text

    def payload(
        self, message_id: str, content_type: str, recipient_ids: tuple[str, ...]
    ) -> Payload:
        """Return the payload that the content is, all of which has come."""
        digest = self.sha256
        if self.ends_as_text() and self.bytes <= _LONGEST_AS_JSON:
            rest = msgspec.json.encode((content_type, recipient_ids))[1:]
            self._written.update(b'",' + rest)
            fingerprint = self._written.hexdigest()
        else:
            written = (("sha256", digest), content_type, recipient_ids)
            fingerprint = sha256(msgspec.json.encode(written)).hexdigest()
        return Payload(payload_key(message_id, digest), self.bytes, digest, fingerprint[:32])
