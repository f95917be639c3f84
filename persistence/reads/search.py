"""Find messages by any of their ids, or by their position in a log."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from persistence.database.pool import Pool, using

__all__ = [
    "dead_letter_at",
    "dead_letters_like",
    "dead_letters_with",
    "latest_dead_letters",
    "messages_like",
    "messages_with",
]

_COLUMNS = """id, conversation_id, sender_id, client_message_id, correlation_id, accepted_at"""

# Each branch has its own index. A message that was given no correlation id has its own id as one,
# and is found by that.
MESSAGES = f"""
SELECT {_COLUMNS} FROM messages WHERE id = $2
UNION SELECT {_COLUMNS} FROM messages WHERE correlation_id = $1 AND correlation_id <> id::text
UNION SELECT {_COLUMNS} FROM messages WHERE client_message_id = $1
UNION SELECT {_COLUMNS} FROM (
    SELECT * FROM messages WHERE conversation_id = $1 ORDER BY seq DESC LIMIT $3
) AS latest
ORDER BY accepted_at DESC, id LIMIT $3
"""  # noqa: S608 - constants only

LIKE = f"""
SELECT {_COLUMNS} FROM messages WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3
"""  # noqa: S608 - constants only

# A record may have any size. The body of one that is too large to be a message of ours is not read.
_LETTERS = """
SELECT id, message_id, conversation_id, failed_at, state,
    CASE WHEN length(body) <= 524288 THEN body END AS body
FROM dead_letters
WHERE kind <> 'receipt' AND (message_id = $2 OR conversation_id = $1) ORDER BY id DESC LIMIT $3
"""

LETTERS_LIKE = """
SELECT id, message_id, conversation_id, failed_at, state,
    CASE WHEN length(body) <= 524288 THEN body END AS body
FROM dead_letters
WHERE kind <> 'receipt' AND message_id >= $1 AND message_id <= $2
ORDER BY message_id, id DESC LIMIT $3
"""

_LETTER = """
SELECT id, message_id, conversation_id, failed_at, state,
    CASE WHEN length(body) <= 524288 THEN body END AS body
FROM dead_letters WHERE id = $1
"""

# The latest letters whose bodies come to 8 MiB together; sizes are known without reading the
# bodies.
_LATEST = """
SELECT id, message_id, conversation_id, body, failed_at, state FROM (
    SELECT *, sum(length(body)) OVER (ORDER BY id DESC) AS size FROM (
        SELECT id, message_id, conversation_id, body, failed_at, state FROM dead_letters
        WHERE kind = 'message' AND state = 'pending' ORDER BY id DESC LIMIT $1
    ) AS latest
) AS sized WHERE size <= 8388608 ORDER BY id DESC
"""


async def messages_with(
    pool: Pool, text: str, identifier: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return rows that have ``text`` as an id or conversation, or ``identifier`` as their id.

    ``identifier`` is ``text`` if that is a UUID.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(MESSAGES, text, identifier, limit)


async def dead_letters_with(
    pool: Pool, text: str, identifier: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return the dead letters of a message or of a conversation, in any state.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(_LETTERS, text, identifier, limit)


async def latest_dead_letters(pool: Pool, limit: int) -> list[asyncpg.Record]:
    """Return the latest pending dead letters of messages, with their bodies.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(_LATEST, limit)


async def messages_like(pool: Pool, first: UUID, last: UUID, limit: int) -> list[asyncpg.Record]:
    """Return rows whose ids are from ``first`` to ``last``.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(LIKE, first, last, limit)


async def dead_letters_like(
    pool: Pool, first: UUID, last: UUID, limit: int
) -> list[asyncpg.Record]:
    """Return the dead letters of messages whose ids are from ``first`` to ``last``.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(LETTERS_LIKE, first, last, limit)


async def dead_letter_at(pool: Pool, number: int) -> list[asyncpg.Record]:
    """Return the dead letter with this id, in any state.

    Raises:
        Outage: PostgreSQL can't answer now.
    """
    async with using(pool) as connection:
        return await connection.fetch(_LETTER, number)
