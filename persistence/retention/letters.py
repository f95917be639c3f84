"""Dead letters of a subject: their rows stay, without anything of the message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec

from persistence.database.pool import Connection
from persistence.dead_letters.rows import ERASED, Row, erased_row_of
from persistence.retention.burial import Doomed
from persistence.retention.subject import Subject
from transport.clock import FIRST, LAST
from transport.contract import Record, Topic
from transport.errors import DecodeError
from transport.message.envelope import Event, Message, decode

__all__ = [
    "PAGE",
    "FoundLetter",
    "doomed_of",
    "event_of",
    "last_letter",
    "letters_of",
    "scrub",
    "scrubbed_row",
]

PAGE = 1000
"""How many letters are examined in one statement."""

# A letter found here may only mention the id. It is decoded before anything is done.
_LETTERS = """
SELECT id, record_key, body, buried FROM dead_letters
CROSS JOIN LATERAL (SELECT EXISTS (
    SELECT FROM tombstones
    WHERE tombstones.id = dead_letters.message_id AND erased_at IS NOT NULL
) AS buried) AS tombstone
WHERE id > $1 AND id <= $2 AND error <> $4 AND (buried OR EXISTS (
    SELECT FROM unnest($3::bytea[]) AS spelling
    WHERE position(spelling IN body) > 0 OR position(spelling IN record_key) > 0
))
ORDER BY id
"""
_LAST = "SELECT coalesce(max(id), 0) FROM dead_letters"
# A receipt's letter names no sender and no conversation: only its message tells whose it is.
_SCRUB = """
UPDATE dead_letters SET record_key = '', body = '', header_names = '{}', header_values = '{}',
    error = $2, cause = $2, conversation_id = NULL,
    state = CASE WHEN state = 'pending' THEN 'discarded' ELSE state END,
    settled_at = coalesce(settled_at, now()), settled_by = $4, settled_why = $5
WHERE (id = ANY($1::bigint[]) OR message_id = ANY($3::uuid[])) AND error <> $2
"""


class FoundLetter(msgspec.Struct, frozen=True):
    """A letter to scrub, and its message if it is one."""

    id: int
    doomed: Doomed | None


async def letters_of(connection: Connection, subject: Subject, after: int) -> list[FoundLetter]:
    """Return the letters of a subject among the ``PAGE`` ids after ``after``.

    If a letter can't be decoded, its bytes decide (``Subject.wrote``).
    """
    rows = await connection.fetch(_LETTERS, after, after + PAGE, subject.spellings, ERASED)
    return [found for row in rows if (found := _found(subject, row))]


async def last_letter(connection: Connection) -> int:
    """Return the id of the latest letter."""
    return int(await connection.fetchval(_LAST))


async def scrub(
    connection: Connection,
    doomed: Sequence[Doomed],
    *,
    ids: Sequence[int] = (),
    by: str,
    why: str,
) -> int:
    """Remove everything that a sender wrote from letters. They can't be redriven any more.

    Args:
        connection: of the database.
        doomed: erased messages. Their letters go, and those of their receipts.
        ids: further letters.
        by: the operator.
        why: the reason.

    Returns:
        How many letters were scrubbed.
    """
    messages = [message.id for message in doomed]
    status = await connection.execute(_SCRUB, ids, ERASED, messages, by, why)
    return int(status.rpartition(" ")[2])


def scrubbed_row(transport: str, record: Record, *, by: str, why: str) -> Row:
    """Return the row of a letter that is not indexed yet, as ``scrub`` would leave it."""
    return erased_row_of(transport, record, by=by, why=why)


def doomed_of(event: Message) -> Doomed | None:
    """Return the message as one to erase; ``None`` if its id is no UUID, and so no row has it."""
    try:
        identifier = UUID(event.message_id)
    except ValueError:
        return None
    return Doomed(identifier, _moment(event.accepted_at), event.payload_key)


def event_of(body: bytes) -> Event | None:
    """Return the event of a record's body; ``None`` if it can't be decoded."""
    try:
        return decode(Record(Topic.MESSAGES, 0, "", "", body, {}, 0.0))
    except DecodeError:
        return None


def _found(subject: Subject, row: asyncpg.Record) -> FoundLetter | None:
    event = event_of(row["body"])
    if isinstance(event, Message) and subject.names(event):
        return FoundLetter(row["id"], doomed_of(event))
    if row["buried"] or (event is None and subject.wrote(row["record_key"], row["body"])):
        return FoundLetter(row["id"], None)
    return None  # another sender's, which mentions the id


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(moment, FIRST), LAST)
