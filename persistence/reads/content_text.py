"""The content of a message as text for people, wherever it is kept."""

from __future__ import annotations

from transport.message.envelope import Message

__all__ = ["content_text"]


def content_text(message: Message) -> str:
    """Return the content; its size in bytes if only the payload store has it."""
    payload = message.payload
    if payload is None or message.content:
        return message.content
    return f"[{payload.bytes} bytes in the payload store]"
