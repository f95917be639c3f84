"""The content of a message as one line for people, wherever it is kept."""

from __future__ import annotations

from transport.message.envelope import Message

__all__ = ["content_text"]


def content_text(message: Message) -> str:
    """Return the content, or its size where it is in the payload store alone."""
    payload = message.payload
    if payload is None or message.content:
        return message.content
    return f"[{payload.bytes} bytes in the payload store]"
