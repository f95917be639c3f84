"""The log lines of dead letters: one line for each, up to a limit a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from persistence.worker.batch.decoding import trace_id_of
from persistence.worker.batch.timer import RestartableTimer
from transport.contract import DeadLetter
from transport.message.envelope import HEADER_CORRELATION_ID, HEADER_MESSAGE_ID

__all__ = ["LetterLog"]

_log = structlog.get_logger(__name__)


class LetterLog:
    """Logs records that became dead letters.

    Another producer may write thousands of records a second that are no messages. The first of a
    minute have a line each, with their ids; the others are counted, and logged when the minute is
    over.

    Args:
        most: how many letters of a minute have a line each.
        seconds: the length of that minute.
    """

    def __init__(self, *, most: int = 20, seconds: float = 60.0) -> None:
        self._most = most
        self._named = 0
        self._more = Counter[str]()
        self._timer = RestartableTimer(self._end, seconds)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Log letters up to the limit; count the others."""
        if letters and not self._timer.is_running:
            self._timer.begin()
        room = self._most - self._named
        for letter in letters[:room]:
            _name(letter)
        self._named += len(letters[:room])
        self._more.update(letter.reason.value for letter in letters[room:])

    def tell(self) -> None:
        """Log the count so far, before the minute is over."""
        if not self._more:
            return
        _log.warning(
            "Failed: more records are dead letters now; see 'crossfade dlq list --group'",
            count=self._more.total(),
            reasons=dict(self._more),
            seconds=self._timer.elapsed,
        )
        self._more.clear()

    def _end(self) -> None:
        self.tell()
        self._named = 0


def _name(letter: DeadLetter) -> None:
    record = letter.record
    _log.warning(
        "Failed: the record is a dead letter now; see 'crossfade dlq list'",
        reason=letter.reason.value,
        error=letter.error,
        attempts=letter.attempts,
        partition=record.partition,
        offset=record.offset,
        message_id=_header(letter, HEADER_MESSAGE_ID),
        correlation_id=_header(letter, HEADER_CORRELATION_ID),
        trace_id=trace_id_of(record),
    )


def _header(letter: DeadLetter, name: str) -> str | None:
    value = letter.record.headers.get(name)
    return value.decode("utf-8", "replace") if value else None
