"""Whose messages are erased: a sender's, or those of a conversation."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Literal

import msgspec

from transport.envelope import Event, Message

__all__ = ["Subject"]

_SHOWN = 16


class Subject(msgspec.Struct, frozen=True):
    """A sender or a conversation. Jobs and records of actions have its digest alone."""

    kind: Literal["sender", "conversation"]
    value: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the id. Who knows the id can tell that it was erased."""
        return sha256(self.value.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def label(self) -> str:
        """The subject as records of it name it."""
        return f"{self.kind} sha256:{self.digest[:_SHOWN]}"

    def names(self, event: Event | None) -> bool:
        """Return whether the event is a message of the subject."""
        if not isinstance(event, Message):
            return False
        return self.value == (event.sender_id if self.kind == "sender" else event.conversation_id)

    @property
    def spellings(self) -> list[bytes]:
        """The id as bytes of a record may have it: as it is, and as JSON spells it."""
        plain = self.value.encode("utf-8", "surrogateescape")
        escaped = {
            json.dumps(self.value, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
            for ascii_only in (True, False)
        }
        return [plain, *sorted(escaped - {plain})]

    def is_in(self, data: bytes) -> bool:
        """Return whether the id stands in ``data``."""
        return any(spelling in data for spelling in self.spellings)
