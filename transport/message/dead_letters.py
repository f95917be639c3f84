"""The form of a dead letter in a log: the original record, with headers about the failure.

It is the same on every transport. Key, body and the record's own headers keep their bytes. The
added headers begin with ``__connect.errors.`` if Kafka Connect has such a header, so that its tools
read our dead letters, and otherwise with ``crossfade.``.

========================================= =====================================================
``__connect.errors.topic``                the broker's name of the topic; else as below
``__connect.errors.partition``            decimal
``__connect.errors.offset``               as the source log writes it
``__connect.errors.exception.message``    one line for people
``__connect.errors.exception.class.name`` the reason again, for Connect's tools
``crossfade.topic``                       ``messages`` or ``dead_letters``
``crossfade.reason``                      a ``Reason``
``crossfade.attempts``                    decimal
``crossfade.failedAt``                    RFC 3339
``crossfade.appendedAt``                  RFC 3339: when the source log got the record
``crossfade.cut``                         only on a cut letter: JSON that describes the whole record
                                          (``transport.kafka.letters``)
========================================= =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from transport.clock import timestamp
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.errors import DecodeError

__all__ = ["HEADER_CUT", "dead_letter_headers", "dead_letter_of", "source_of"]

HEADER_CUT = "crossfade.cut"
"""The header of a letter that lacks part of its record, and so can't be redriven."""

_TOPIC = "__connect.errors.topic"
_PARTITION = "__connect.errors.partition"
_OFFSET = "__connect.errors.offset"
_ERROR = "__connect.errors.exception.message"
_CLASS = "__connect.errors.exception.class.name"
_OUR_TOPIC = "crossfade.topic"
_REASON = "crossfade.reason"
_ATTEMPTS = "crossfade.attempts"
_FAILED_AT = "crossfade.failedAt"
_APPENDED_AT = "crossfade.appendedAt"
_ADDED = frozenset(
    (
        _TOPIC, _PARTITION, _OFFSET, _ERROR, _CLASS, _OUR_TOPIC, _REASON, _ATTEMPTS, _FAILED_AT,
        _APPENDED_AT,
    )
)  # fmt: skip


def source_of(letter: DeadLetter) -> str:
    """Return ``topic/partition/offset``, which identifies the record, also if it is sent twice."""
    record = letter.record
    return f"{record.topic}/{record.partition}/{record.offset}"


def dead_letter_headers(letter: DeadLetter, *, topic: str | None = None) -> dict[str, bytes]:
    """Return the headers to append with the letter's key and body.

    ``topic`` is the broker's name of the record's topic, if it has one.
    """
    record = letter.record
    return {
        **record.headers,
        _TOPIC: (topic or record.topic.value).encode(),
        _PARTITION: b"%d" % record.partition,
        _OFFSET: record.offset.encode(),
        _ERROR: letter.error.encode("utf-8", "backslashreplace"),
        _CLASS: letter.reason.value.encode(),
        _OUR_TOPIC: record.topic.value.encode(),
        _REASON: letter.reason.value.encode(),
        _ATTEMPTS: b"%d" % letter.attempts,
        _FAILED_AT: letter.failed_at.encode(),
        _APPENDED_AT: timestamp(record.appended_at).encode(),
    }


def dead_letter_of(record: Record) -> DeadLetter:
    """Return the dead letter that ``record`` of the dead-letter log encodes.

    A record of another program may lack our headers. Then topic, partition and offset are those of
    ``record`` itself.

    Raises:
        DecodeError: one of our headers has an invalid value; the text names it.
    """
    headers = record.headers
    try:
        return DeadLetter(
            record=Record(
                topic=Topic(
                    _text(headers, _OUR_TOPIC) or _text(headers, _TOPIC) or record.topic.value
                ),
                partition=int(_text(headers, _PARTITION) or record.partition),
                offset=_text(headers, _OFFSET) or record.offset,
                key=record.key,
                body=record.body,
                headers={name: value for name, value in headers.items() if name not in _ADDED},
                appended_at=_seconds(_text(headers, _APPENDED_AT)) or record.appended_at,
            ),
            reason=Reason(_text(headers, _REASON) or Reason.REJECTED.value),
            error=_text(headers, _ERROR),
            attempts=int(_text(headers, _ATTEMPTS) or 1),
            failed_at=_text(headers, _FAILED_AT) or timestamp(record.appended_at),
        )
    except (ValueError, OverflowError) as error:
        raise DecodeError(f"a header of dead letter {record.offset} is wrong: {error}") from error


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
