"""A record of the dead-letter log as a row, whatever is in it.

Nothing here may refuse a letter: this is where records end that nobody could store. So bytes stay
bytes, and text is made storable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from persistence.database import Connection
from persistence.origin import Origin, origin_of
from transport.contract import DeadLetter, Reason, Record
from transport.dead_letters import dead_letter_of
from transport.envelope import HEADER_MESSAGE_ID, HEADER_REDRIVES, Message, decode
from transport.errors import DecodeError

__all__ = ["HEADER_REDRIVES", "identity_of", "insert", "row_of"]

_INTEGER = 2**31 - 1

_INSERT = """
INSERT INTO dead_letters (
    identity, transport, log_offset, source_topic, source_partition, source_offset, message_id,
    conversation_id, kind, record_key, body, header_names, header_values, reason, error, attempts,
    redrives, failed_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (identity) DO NOTHING
"""


async def insert(connection: Connection, transport: str, records: Sequence[Record]) -> None:
    """Make a row of each record of the dead-letter log, all or none; repeats change nothing."""
    await connection.executemany(_INSERT, [row_of(transport, record) for record in records])


def identity_of(transport: str, record: Record) -> bytes:
    """Return the digest that is the same however often ``record`` is dead-lettered.

    A copy's is its original's, so that of one message one letter is kept, on whichever log, or on
    both, it failed.
    """
    origin = origin_of(record) or Origin(transport, record.offset)
    place = f"{origin.transport}/{record.topic.value}/{record.partition}/{origin.offset}"
    return sha256(place.encode("utf-8", "surrogateescape") + b"\0" + record.body).digest()


def row_of(transport: str, record: Record) -> tuple[object, ...]:
    """Return the columns of a record of the dead-letter log, in the statement's order."""
    letter = _letter(record)
    source = letter.record
    kind, message_id, conversation_id = _subject(source)
    return (
        identity_of(transport, source),
        transport,
        record.offset,
        source.topic.value,
        min(max(source.partition, -1), _INTEGER),
        _text(source.offset),
        message_id,
        conversation_id,
        kind,
        source.key.encode("utf-8", "surrogateescape"),
        source.body,
        [name.encode("utf-8", "surrogateescape") for name in source.headers],
        list(source.headers.values()),
        letter.reason.value,
        _text(letter.error),
        min(letter.attempts, _INTEGER),
        _redrives(source),
        _moment(letter),
    )


def _letter(record: Record) -> DeadLetter:
    try:
        return dead_letter_of(record)
    except DecodeError as error:
        # Somebody else's, with headers that only look like ours: kept as it stands.
        failed_at = datetime.fromtimestamp(record.appended_at, UTC).isoformat()
        return DeadLetter(record, Reason.REJECTED, str(error), 1, failed_at)


def _subject(record: Record) -> tuple[str, UUID | None, str | None]:
    """Return what the record is, and the ids of the message and the conversation it is about."""
    try:
        event = decode(record)
    except DecodeError:
        header = record.headers.get(HEADER_MESSAGE_ID, b"")
        return "unknown", _uuid(header.decode("utf-8", "replace")), None
    if isinstance(event, Message):
        return "message", _uuid(event.message_id), _text(event.conversation_id)
    return "receipt", _uuid(event.message_id), None


def _redrives(record: Record) -> int:
    value = record.headers.get(HEADER_REDRIVES, b"")
    return min(int(value), _INTEGER) if value.isdigit() else 0


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _moment(letter: DeadLetter) -> datetime:
    try:
        moment = datetime.fromisoformat(letter.failed_at)
    except ValueError:
        moment = datetime.fromtimestamp(letter.record.appended_at, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _text(text: str) -> str:
    """Return ``text`` without what PostgreSQL's can't hold: NUL, and what was not UTF-8."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
