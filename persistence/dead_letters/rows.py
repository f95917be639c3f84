"""Convert any record of the dead-letter log to a row.

No function here may refuse a letter, because its record could not be stored elsewhere. So bytes
stay bytes, and text is made storable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from persistence.database.pool import Connection
from persistence.dead_letters.cause import cause_of
from persistence.store.dead_identity import identity_of
from transport.clock import FIRST, LAST, moment, timestamp
from transport.contract import DeadLetter, Reason, Record
from transport.errors import DecodeError
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import HEADER_MESSAGE_ID, HEADER_REDRIVES, Message, decode

__all__ = [
    "ERASED",
    "HEADER_REDRIVES",
    "Row",
    "conversation_in",
    "erased_row_of",
    "identities_of",
    "insert",
    "insert_rows",
    "plain_row_of",
    "row_of",
    "stub_of",
]

Row = tuple[object, ...]
"""The columns in the statement's order."""

_INTEGER = 2**31 - 1
_DIGITS = 10
_LONGEST_ID = 256
"""In characters. Our ids are not longer, and an index takes at most 2,704 bytes."""
_LONGEST_TEXT = 4000
_TOO_LARGE = "too large for the table: the dead-letter log has it whole"

_INSERT = """
INSERT INTO dead_letters (
    identity, transport, log_offset, source_topic, source_partition, source_offset, message_id,
    conversation_id, kind, record_key, body, header_names, header_values, reason, error, attempts,
    redrives, failed_at, state, settled_at, settled_by, settled_why, cause
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text,
    CASE WHEN $19::text <> 'pending' THEN now() END, $20, $21, $22
)
ON CONFLICT (identity) DO NOTHING
"""


async def insert(connection: Connection, transport: str, records: Sequence[Record]) -> None:
    """Insert a row for each record of the dead-letter log, all or none; repeats change nothing."""
    await insert_rows(connection, [row_of(transport, record) for record in records])


async def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows of the table, all or none; repeats change nothing."""
    await connection.executemany(_INSERT, rows)


def identities_of(transport: str, record: Record) -> tuple[bytes, bytes]:
    """Return the identities that the row of a record of the dead-letter log may have.

    The first is the dead record's; the second, the letter's own, is used if it can't be decoded.
    """
    return identity_of(transport, _letter(record).record), identity_of(transport, record)


def row_of(transport: str, record: Record) -> Row:
    """Return the row of a record of the dead-letter log."""
    letter = _letter(record)
    source = letter.record
    kind, message_id, conversation_id = _subject(source)
    return (
        identity_of(transport, source),
        transport,
        record.offset,
        source.topic.value,
        _integer(source.partition),
        _text(source.offset),
        message_id,
        conversation_id,
        kind,
        *_bytes_of(source),
        letter.reason.value,
        _text(letter.error),
        _integer(letter.attempts),
        _redrives(source),
        _moment(letter),
        *_PENDING,
        cause_of(_text(letter.error)),
    )


_PENDING = ("pending", None, None)


ERASED = "erased"
"""``error`` and ``cause`` of a letter whose content was erased."""


def erased_row_of(transport: str, record: Record, *, by: str, why: str) -> Row:
    """Return the row of a dead-letter record without anything that its sender wrote."""
    letter = _letter(record)
    source = letter.record
    kind, message_id, _ = _subject(source)
    return (
        identity_of(transport, source),
        transport,
        record.offset,
        source.topic.value,
        _integer(source.partition),
        _text(source.offset),
        message_id,
        None,
        kind,
        *(b"", b"", [], []),
        letter.reason.value,
        ERASED,
        _integer(letter.attempts),
        _redrives(source),
        _moment(letter),
        *("discarded", by, why),
        ERASED,
    )


def plain_row_of(transport: str, record: Record) -> Row:
    """Return a row with a record's bytes, but no fields decoded from them."""
    return _plain(transport, record, _bytes_of(record), _PENDING)


def stub_of(transport: str, record: Record) -> Row:
    """Return a row with only a record's position, for a record that fits into no row.

    It counts as discarded: without bytes it can't be redriven.
    """
    return _plain(
        transport, record, (b"", b"", [], []), ("discarded", "crossfade", f"it is {_TOO_LARGE}")
    )


def _plain(
    transport: str, record: Record, contents: tuple[object, ...], resolution: tuple[object, ...]
) -> Row:
    reason = Reason.REJECTED.value
    why = f"the index can't read it: see {record.offset[:_LONGEST_ID]} in the dead-letter log"
    return (
        identity_of(transport, record),
        transport,
        _text(record.offset),
        record.topic.value,
        _integer(record.partition),
        _text(record.offset),
        None,
        None,
        "unknown",
        *contents,
        reason,
        why,
        1,
        0,
        datetime.now(UTC),
        *resolution,
        cause_of(_text(why)),
    )


def _bytes_of(record: Record) -> tuple[object, ...]:
    return (
        _bytes(record.key),
        record.body,
        [_bytes(name) for name in record.headers],
        list(record.headers.values()),
    )


def _bytes(text: str) -> bytes:
    """Return the bytes that ``text`` was decoded from; other lone surrogates become ``?``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _letter(record: Record) -> DeadLetter:
    try:
        return dead_letter_of(record)
    except DecodeError as error:
        # Another program's record, with headers that only look like ours: stored unchanged.
        return DeadLetter(record, Reason.REJECTED, str(error), 1, timestamp(record.appended_at))


def _subject(record: Record) -> tuple[str, UUID | None, str | None]:
    """Return the record's kind, and the ids of its message and its conversation."""
    try:
        event = decode(record)
    except DecodeError:
        header = record.headers.get(HEADER_MESSAGE_ID, b"")
        identifier = header.decode("utf-8", "replace")
        # A receipt's key is its message's id, and names no conversation.
        conversation = None if record.key == identifier else conversation_in(_bytes(record.key))
        return "unknown", _uuid(identifier), conversation
    if isinstance(event, Message):
        return "message", _uuid(event.message_id), _indexed(event.conversation_id)
    return "receipt", _uuid(event.message_id), None


def conversation_in(key: bytes) -> str | None:
    """Return the conversation named by a record's key; ``None`` if the key can't be read as one.

    Producers use the conversation as the key of messages, even if the body can't be read.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return _indexed(text) if text and text.isprintable() else None


def _redrives(record: Record) -> int:
    value = record.headers.get(HEADER_REDRIVES, b"")
    if not value.isdigit():
        return 0
    return min(int(value), _INTEGER) if len(value) <= _DIGITS else _INTEGER


def _integer(number: int) -> int:
    return min(max(number, -1), _INTEGER)


def _indexed(text: str) -> str | None:
    """Return an id for its column; ``None`` if it is too long for the index."""
    return _text(text) if len(text) <= _LONGEST_ID else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _moment(letter: DeadLetter) -> datetime:
    try:
        failed = datetime.fromisoformat(letter.failed_at)
        failed = failed.astimezone(UTC) if failed.tzinfo else failed.replace(tzinfo=UTC)
        return min(max(failed, FIRST), LAST)
    except (ValueError, OverflowError):  # not a time, or outside the years of UTC
        return moment(letter.record.appended_at)


def _text(text: str) -> str:
    """Return ``text`` cut to a length, without what PostgreSQL can't hold: NUL, lone surrogates."""
    return text[:_LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
