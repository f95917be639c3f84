"""The part ``content`` of a form: a little of it stays in memory, more goes into the store."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from ingress.accept.submission import Submission
from ingress.accept.uploads import Uploads
from persistence.payloads.upload import PayloadUpload
from transport.message.payload import ContentDigest

__all__ = ["ContentPart"]

_IN_MEMORY = 2**20
"""The most bytes of content that stay in memory."""


class ContentPart:
    """Receives one message's content: up to a megabyte in memory, more into the store."""

    def __init__(self, uploads: Uploads, message: Submission) -> None:
        self.digest = ContentDigest()
        self._uploads = uploads
        self._message = message
        self._held = bytearray()
        self._in_memory = True
        self._upload: PayloadUpload | None = None

    @property
    def held(self) -> int:
        """The number of bytes in memory."""
        return len(self._held)

    def take(self, data: bytes) -> bytes | None:
        """Take the next bytes of the content; return the bytes to upload, if any."""
        self.digest.add(data)
        if not self._in_memory:
            return data
        self._held += data
        if len(self._held) <= _IN_MEMORY:
            return None
        held, self._held = bytes(self._held), bytearray()
        self._in_memory = False
        return held

    async def upload(self, data: bytes) -> None:
        """Upload the next bytes, unless the message has a row already."""
        message = self._message
        if self._upload is None:
            if message.verdict is not None or await self._uploads.is_decided(message):
                return
            self._upload = self._uploads.begin(message)
        await self._uploads.write(message, self._upload, data)

    async def finish(self, content_type: str | None) -> None:
        """Complete the content: small text goes into the message, other content into the store."""
        message = self._message
        data = bytes(self._held)
        text = data.decode() if self.digest.ends_as_text() and self._in_memory else None
        request = message.request
        kind = request.content_type
        if kind is UNSET:
            kind = content_type or ("text" if text is not None else "application/octet-stream")
        message.request = msgspec.structs.replace(request, content=text or "", content_type=kind)
        message.size = len(data)
        if text is not None and not self._uploads.wants(message):
            return
        recipients = () if request.recipient_ids is UNSET else request.recipient_ids
        payload = self.digest.payload(message.message_id, kind, recipients)
        if self._upload is not None:
            await self._uploads.commit(message, self._upload, payload.key)
            self._upload = None
        elif message.verdict is None:
            await self._uploads.place(message, payload, data)
        message.refer_to(payload, keep=text is not None and self._uploads.fits_row(payload))

    def abandon(self) -> None:
        """Remove the content from the store."""
        if self._upload is not None:
            self._uploads.abandon(self._message, self._upload)
            self._upload = None
