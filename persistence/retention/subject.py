"""The subject of an erasure: a sender, or a conversation."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Literal

import msgspec

from transport.message.envelope import Event, Message

__all__ = ["Subject"]

_SHOWN = 16
_FIELD = {"sender": "senderId", "conversation": "conversationId"}
_IN_A_WORD = rb"[\w.@+\x80-\xff-]"


class Subject(msgspec.Struct, frozen=True):
    """A sender or a conversation. Jobs and records of actions have its digest alone."""

    kind: Literal["sender", "conversation"]
    value: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the id. Somebody who knows the id can tell that it was erased."""
        return sha256(self.value.encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def label(self) -> str:
        """The subject's name in records of the erasure."""
        return f"{self.kind} sha256:{self.digest[:_SHOWN]}"

    def names(self, event: Event | None) -> bool:
        """Return whether the event is a message of the subject."""
        if not isinstance(event, Message):
            return False
        return self.value == (event.sender_id if self.kind == "sender" else event.conversation_id)

    @property
    def spellings(self) -> list[bytes]:
        """The id as a record's bytes may have it: plain, and as JSON escapes it."""
        plain = self.value.encode("utf-8", "surrogateescape")
        escaped = {
            json.dumps(self.value, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogateescape")
            for ascii_only in (True, False)
        }
        return [plain, *sorted(escaped - {plain})]

    def wrote(self, key: bytes, body: bytes) -> bool:
        """Return whether an undecodable record is the subject's, as far as its bytes tell.

        JSON is decided by its field. Other bytes, and JSON without the field, are the subject's if
        the id stands in them as a whole word: ``ann`` is not in ``joanna`` or ``ann@example.org``.
        """
        if self.kind == "conversation" and key == self.spellings[0]:
            return True
        named = _field(body, _FIELD[self.kind])
        if named is not None:
            return named == self.value
        return any(
            re.search(rb"(?<!%s)%s(?!%s)" % (_IN_A_WORD, re.escape(spelling), _IN_A_WORD), body)
            for spelling in self.spellings
        )


def _field(body: bytes, name: str) -> str | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None
