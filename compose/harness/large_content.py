"""Large content for a load: a share of its messages, of many sizes, text and not, both ways in."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from compose.harness.content_name import name_of
from compose.load.form import Form

__all__ = ["LargeContent", "SentContent"]

_SMALLEST, _LARGEST = 2_100, 200_000  # bytes; above PAYLOAD_THRESHOLD_BYTES
_STREAMED = 0.03  # a share of the large ones
_STREAMED_BYTES = 1_300_000  # more than an ingress keeps of a form in memory
_MOST_AS_JSON = 60_000  # INGRESS_MAX_CONTENT_BYTES has room for it
_BINARY = 0.3  # a share of the large ones


class SentContent(NamedTuple):
    """Content as it is sent. ``name`` is the history's."""

    name: str
    data: bytes | None
    """``None``: the content is its name."""
    is_text: bool = True

    def request(self, body: dict[str, Any], *, as_form: bool) -> dict[str, Any] | Form:
        """Return the request of a message with this content."""
        if self.data is None:
            return body
        if self.is_text and not as_form and len(self.data) <= _MOST_AS_JSON:
            return {**body, "content": self.data.decode()}
        kind = body["contentType"] if self.is_text else "application/octet-stream"
        message = {name: value for name, value in body.items() if name != "content"}
        return Form({**message, "contentType": kind}, self.data)


class LargeContent:
    """Makes large content from a small one. The same small one always becomes the same bytes.

    Args:
        share: Of the contents, how many become large.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def of(self, content: str) -> SentContent:
        """Return the content to send in place of ``content``: the same, or a larger one."""
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
