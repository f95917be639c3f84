"""The text of a search, parsed as everything that it may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

import msgspec

from ingress.console.views import Matched
from transport.message.envelope import Message

__all__ = ["QueriedPosition", "SearchQuery"]

_LEAST = 6
"""The fewest hexadecimal digits of a message id that are searched for."""
_DIGITS = 32
_HEX = re.compile(r"[0-9a-f]+")
_LETTER = re.compile(r"(?:dead letter\s*|#\s*)?([0-9]{1,18})", re.IGNORECASE)
_POSITION = re.compile(
    r"(?P<log>[a-z][a-z0-9_-]*)[\s:,]+(?:partition\s+)?(?P<partition>[0-9]{1,5})"
    r"[\s:/@,]+(?:at\s+)?(?P<offset>[^\s:/@,]+)",
    re.IGNORECASE,
)


class QueriedPosition(msgspec.Struct, frozen=True):
    """A log, a partition and an offset, as they were typed. The offset may not be valid."""

    log: str
    partition: int
    offset: str


class SearchQuery(msgspec.Struct, frozen=True):
    """A search's text, and its possible meanings.

    They are: a whole id, the beginning of a message id, a place in a log, a dead letter's number.
    """

    text: str
    identifier: UUID | None = None
    first: UUID | None = None
    """The smallest message id that begins with the text; ``last`` is the largest."""
    last: UUID | None = None
    letter: int | None = None
    position: QueriedPosition | None = None

    @classmethod
    def of(cls, text: str, logs: Iterable[str]) -> SearchQuery:
        """Parse ``text`` as ids, a place in one of ``logs``, and a dead letter's number."""
        first, last = _range(text)
        number = _LETTER.fullmatch(text)
        return cls(
            text,
            identifier=_uuid(text),
            first=first,
            last=last,
            letter=int(number[1]) if number else None,
            position=_position(text, logs),
        )

    def matched(self, identifier: str, message: Message | None) -> list[Matched]:
        """Return the fields of a message that match the text; empty if none does."""
        found: list[Matched] = []
        if identifier == self.text.lower():
            found.append("message id")
        elif self._begins(identifier):
            found.append("beginning of the message id")
        if message is None:
            return found
        if message.client_message_id == self.text:
            found.append("client message id")
        if message.correlation_id == self.text:
            found.append("correlation id")
        if message.conversation_id == self.text:
            found.append("conversation")
        return found

    def _begins(self, identifier: str) -> bool:
        if self.first is None or self.last is None:
            return False
        found = _uuid(identifier)
        return found is not None and self.first <= found <= self.last


def _range(text: str) -> tuple[UUID | None, UUID | None]:
    """Return the smallest and the largest id that begin with ``text``, which may end in "…"."""
    start = text.lower().rstrip("….")
    digits = start.replace("-", "")
    if not _LEAST <= len(digits) < _DIGITS or _HEX.fullmatch(digits) is None:
        return None, None
    first, last = UUID(digits.ljust(_DIGITS, "0")), UUID(digits.ljust(_DIGITS, "f"))
    if "-" in start and not str(first).startswith(start):
        return None, None
    return first, last


def _position(text: str, logs: Iterable[str]) -> QueriedPosition | None:
    match = _POSITION.fullmatch(text)
    if match is None:
        return None
    name = next((log for log in logs if log.lower() == match["log"].lower()), None)
    return QueriedPosition(name, int(match["partition"]), match["offset"]) if name else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
