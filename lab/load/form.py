"""A message as ``multipart/form-data``: its JSON part, then its content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Form"]

_BOUNDARY = "crossfade-5f0e7f6c2f8b4d0a"  # occurs in no content that a load sends


class Form(NamedTuple):
    """The parts of the form. ``message`` has no ``content``."""

    message: Mapping[str, Any]
    content: bytes

    @property
    def media_type(self) -> str:
        """The Content-Type of ``body``."""
        return f"multipart/form-data; boundary={_BOUNDARY}"

    @property
    def body(self) -> bytes:
        """The form's bytes."""
        message = json.dumps(self.message).encode()
        return b"".join(
            (
                _head("message"), message, b"\r\n",
                _head("content", '; filename="content"'), self.content,
                f"\r\n--{_BOUNDARY}--\r\n".encode(),
            )
        )  # fmt: skip


def _head(name: str, more: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--{_BOUNDARY}\r\n{disposition}\r\n\r\n".encode()
