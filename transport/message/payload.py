"""Payloads: content that is stored outside the log. The record has the payload's key instead.

This module does not know the store.
"""

from __future__ import annotations

import codecs
from hashlib import sha256

import msgspec

__all__ = ["MOST_BYTES", "ContentDigest", "Payload", "payload_key", "sha256_in"]

MOST_BYTES = 5 * 10**9
"""The bytes of the largest payload: S3 copies it in one request, a worker hashes it in a minute."""

_LONGEST_AS_JSON = 2**20
"""The bytes of the largest text with a fingerprint of version 1, which is the default limit of a
request in JSON. Escaping the control characters of larger text takes seconds."""


class Payload(msgspec.Struct, frozen=True, gc=False):
    """The description of content outside the log, in its record.

    ``sha256`` is that of the content, in lower-case hexadecimal. ``fingerprint`` is the message's
    fingerprint, which can't be computed from the record alone.
    """

    key: str
    bytes: int
    sha256: str
    fingerprint: str


def payload_key(message_id: str, sha256: str) -> str:
    """Return the key of a message's content.

    A retry has the same key and the same bytes. Another body of the same message has another key.
    All content of a message has the same prefix.
    """
    return f"{message_id}/{sha256}"


def sha256_in(key: str) -> str:
    """Return the SHA-256 that a payload's key ends with."""
    return key.rpartition("/")[2]


class ContentDigest:
    """Computes the payload's fields while the content arrives in pieces.

    Content is text if its bytes are UTF-8 without U+0000, whatever its media type.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.is_text = True
        self._sha256 = sha256()
        self._written = sha256(b'["')  # of the same JSON that ``Message.fingerprint`` digests
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
        """The SHA-256 of the content so far, in lower-case hexadecimal."""
        return self._sha256.hexdigest()

    def ends_as_text(self) -> bool:
        """Return whether the content is text, after its last piece."""
        if self.is_text:
            self._add_text(b"", final=True)
        return self.is_text

    def payload(
        self, message_id: str, content_type: str, recipient_ids: tuple[str, ...]
    ) -> Payload:
        """Return the payload, after the last piece of content."""
        digest = self.sha256
        if self.ends_as_text() and self.bytes <= _LONGEST_AS_JSON:
            rest = msgspec.json.encode((content_type, recipient_ids))[1:]
            self._written.update(b'",' + rest)
            fingerprint = self._written.hexdigest()
        else:
            written = (("sha256", digest), content_type, recipient_ids)
            fingerprint = sha256(msgspec.json.encode(written)).hexdigest()
        return Payload(payload_key(message_id, digest), self.bytes, digest, fingerprint[:32])
