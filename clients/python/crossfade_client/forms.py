"""Requests with a message whose content is bytes, as ``multipart/form-data``."""

from __future__ import annotations

import secrets

from crossfade_client.batches import described
from crossfade_client.models import NewMessage

__all__ = ["form_of"]

_TEXT = "text"
_BYTES = "application/octet-stream"


def form_of(message: NewMessage, content: bytes) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body that send a message with this content.

    Raises:
        ValueError: A text in the message can't be encoded as UTF-8.
    """
    kind = _BYTES if message.content_type == _TEXT else message.content_type
    boundary = secrets.token_hex(16)
    body = b"".join(
        (
            _part(boundary, "message", "application/json"),
            described(message, content=None, content_type=kind),
            b"\r\n",
            _part(boundary, "content", _BYTES),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body


def _part(boundary: str, name: str, kind: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()
