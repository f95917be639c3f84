"""Large content for a load: many sizes, text and binary, sent as JSON and as forms."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from lab.harness.content_name import name_of
from lab.load.form import Form

__all__ = ["LargeContent", "SentContent"]

_SMALLEST, _LARGEST = 2_100, 200_000  # bytes; above PAYLOAD_THRESHOLD_BYTES
_STREAMED = 0.03  # a share of the large ones
_STREAMED_BYTES = 1_300_000  # more than an ingress keeps of a form in memory
_MOST_AS_JSON = 60_000  # INGRESS_MAX_CONTENT_BYTES has room for it
_BINARY = 0.3  # a share of the large ones


class SentContent(NamedTuple):
    """The content of a request, with its name in the history."""

    name: str
    data: bytes | None
    """The bytes of large content; ``None``: ``name`` is the content itself."""
    is_text: bool = True

    def request(self, body: dict[str, Any], *, as_form: bool) -> dict[str, Any] | Form:
        """Return the request for a message with this content.

        Args:
            body: The message, with its small content.
            as_form: Send a form even if the content fits into JSON.
        """
        if self.data is None:
            return body
        if self.is_text and not as_form and len(self.data) <= _MOST_AS_JSON:
            return {**body, "content": self.data.decode()}
        kind = body["contentType"] if self.is_text else "application/octet-stream"
        message = {name: value for name, value in body.items() if name != "content"}
        return Form({**message, "contentType": kind}, self.data)


class LargeContent:
    """Replaces a share of small contents by large ones; equal contents get equal replacements.

    Args:
        share: The share of contents that become large, from 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def of(self, content: str) -> SentContent:
        """Return the content to send for ``content``: the same, or a large one."""
        dice = random.Random(content)
        if dice.random() >= self._share:
            return SentContent(content, None)
        size = int(_SMALLEST * (_LARGEST / _SMALLEST) ** dice.random())
        if dice.random() < _STREAMED:
            size = _STREAMED_BYTES
        is_text = dice.random() >= _BINARY
        begins = f"{content}: wörter\n".encode()
        data = begins + (
            dice.randbytes(size // 2).hex().encode()
            if is_text
            else b"\xff\0" + dice.randbytes(size)
        )
        return SentContent(name_of(data), data, is_text)
