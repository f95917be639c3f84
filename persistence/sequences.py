"""Keep the sequences that number our rows ahead of these rows.

Logical replication copies rows and no sequences. So does whatever is built on it: an upgrade to
another major version, and many a migration tool. On the copy, PostgreSQL would give out numbers
that older rows have: new messages would be read before old ones, and no dead letter could be
listed.

So the sequences are looked at before the first insert over each connection, and those that are
behind are advanced. Connections to the old server do not lead to the copy, unless a pooler in
transaction mode stands between. There the look is repeated whenever a partition is taken. On a copy
each is taken anew: the place of its position in the table is another one there.

A standby that was behind, and a restored backup, have numbers that go with their rows. But readers
keep the number of the last row that they read, and lost rows had higher ones. So what is inserted
after a loss gets numbers beyond those (``pass_lost_numbers``).

Most tables have their number as the primary key, so the last one is found at once. ``messages``
has no index for that. Heartbeats keep a mark instead (``MARK``).
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg
import structlog

from persistence.database.failover import pooling_of
from persistence.database.fitness import Pooling
from persistence.database.pool import Connection
from persistence.database.translation import UNNUMBERED
from persistence.errors import Outage

__all__ = [
    "MARK",
    "NUMBERED",
    "Behind",
    "advance_sequences",
    "behind",
    "pass_lost_numbers",
    "unprivileged",
]

_log = structlog.get_logger(__name__)

NUMBERED = (
    ("messages", "seq"),
    ("dead_letters", "id"),
    ("delivery_attempts", "id"),
    ("freed_pages", "id"),
    ("migration_events", "id"),
    ("operator_actions", "id"),
    ("row_archives", "id"),
    ("shadow_gaps", "id"),
)
"""Each table with a column that PostgreSQL numbers, and that column."""

_REACHED = ", ".join(
    f"('{table}', '{column}', (SELECT max({column}) FROM {table}))"  # noqa: S608 - constants only
    for table, column in NUMBERED
    if table != "messages"
)
_SEQUENCE = "pg_get_serial_sequence({table}, {column})::regclass"
# Null if this role may not know it.
_LAST = """
CASE WHEN has_sequence_privilege(sequence, 'SELECT, USAGE')
    THEN coalesce(pg_sequence_last_value(sequence), 0) END
"""

MARK = f"""
INSERT INTO sequence_marks AS mark (name, reached)
SELECT 'messages', last
FROM (SELECT {_SEQUENCE.format(table="'messages'", column="'seq'")} AS sequence) AS numbering,
    LATERAL (SELECT {_LAST} AS last) AS known
WHERE last > 0 AND NOT EXISTS (
    SELECT FROM sequence_marks WHERE name = 'messages' AND last <= reached + reached / 100)
ON CONFLICT (name) DO UPDATE SET reached = greatest(mark.reached, excluded.reached)
"""  # noqa: S608 - constants only
"""Note the last number of ``messages`` if it is a hundredth higher than the one noted before.

So a mark is written some two thousand times until there are 10^8 rows.
"""

# A sequence may be further than its mark, by a hundredth and by what one heartbeat missed.
_BEHIND = f"""
SELECT sequence::text AS sequence, last,
    CASE name WHEN 'messages' THEN reached + reached / 50 + 1000000 ELSE reached END AS wanted
FROM (VALUES ('messages', 'seq', (SELECT reached FROM sequence_marks WHERE name = 'messages')),
        {_REACHED}) AS numbered (name, number, reached),
    LATERAL (SELECT {_SEQUENCE.format(table="name", column="number")} AS sequence) AS numbering,
    LATERAL (SELECT {_LAST} AS last) AS known
WHERE reached > last
"""  # noqa: S608 - constants only

_UNPRIVILEGED = f"""
SELECT sequence::text
FROM unnest($1::text[], $2::text[]) AS numbered (name, number),
    LATERAL (SELECT {_SEQUENCE.format(table="name", column="number")} AS sequence) AS numbering
WHERE NOT has_sequence_privilege(sequence, 'SELECT')
    OR NOT has_sequence_privilege(sequence, 'UPDATE')
"""  # noqa: S608 - constants only

# With a row of nulls if ``messages`` gives no numbers.
_LOOK = f"""
{_BEHIND} UNION ALL SELECT NULL, NULL, NULL FROM pg_attribute
WHERE attrelid = 'messages'::regclass AND attname = 'seq'
    AND attidentity = '' AND NOT atthasdef
"""  # noqa: S608 - constants only

_NAME = "sequences"  # of this check
_LOCK_CLASS = 0x63726675  # keeps this lock apart from other programs', and from our others
_LOCK = f"SELECT pg_advisory_xact_lock({_LOCK_CLASS}, 0)"
_ADVANCE = "SELECT setval($1::text::regclass, $2)"

# How many numbers a server gave out before it was lost is not known. There were more than rows:
# repeats take numbers too. These are enough for a day of 11,000 messages a second.
_LOST_NUMBERS = 10**9
_PASS_LOST = f"SELECT setval($1::text::regclass, nextval($1::text::regclass) + {_LOST_NUMBERS})"
_OF_MESSAGES = f"""
SELECT {_SEQUENCE.format(table="'messages'", column="'seq'")}::text AS sequence,
    quote_ident(current_user) AS role
"""


class Behind(NamedTuple):
    """A sequence that is behind its rows: the number that it gave last, and the one it needs."""

    sequence: str
    last: int
    wanted: int

    @property
    def remedy(self) -> str:
        """The statement that advances it."""
        return f"SELECT setval('{self.sequence}', {self.wanted})"


async def behind(connection: Connection) -> list[Behind]:
    """Return the sequences that are behind their rows, of those that this role may read."""
    rows = await connection.fetch(_BEHIND)
    return [Behind(row["sequence"], row["last"], row["wanted"]) for row in rows]


async def unprivileged(connection: Connection) -> list[str]:
    """Return the sequences that this role may not read, or may not advance."""
    rows = await connection.fetch(_UNPRIVILEGED, *zip(*NUMBERED, strict=True))
    return [row["sequence"] for row in rows]


async def advance_sequences(connection: Connection, *, anew: bool = False) -> None:
    """Advance the sequences that are behind their rows; look once for each connection.

    Args:
        connection: Rows may be inserted over it afterwards.
        anew: Look again behind a pooler in transaction mode, which can lead the connection to
            another server meanwhile.

    Raises:
        Outage: a sequence is behind, and this role may not advance it; or ``messages`` has none.
    """
    checked: set[str] = getattr(connection, "checked", set())
    if _NAME in checked and not (anew and pooling_of(connection) is Pooling.TRANSACTION):
        return
    found = [row["sequence"] for row in await connection.fetch(_LOOK)]
    if any(found):
        await _advance(connection)
    if None in found:
        raise Outage(UNNUMBERED)  # the sequence that comes has to be looked at too
    checked.add(_NAME)


async def pass_lost_numbers(connection: Connection) -> None:
    """Leave out the numbers of ``messages`` that a server may have given out before it was lost.

    Call it after PostgreSQL lost rows, before the next one is inserted. A reader that goes on from
    a lost row's number then finds all rows that come: those put back, once more, and new ones.

    Raises:
        Outage: this role may not advance the sequence.
    """
    async with connection.transaction():
        await connection.execute(_LOCK)  # as below
        (numbering,) = await connection.fetch(_OF_MESSAGES)
        try:
            await connection.fetchval(_PASS_LOST, numbering["sequence"])
        except asyncpg.InsufficientPrivilegeError as error:
            raise Outage(
                "PostgreSQL lost rows in a failover or a restore, and this role may not advance "
                f"{numbering['sequence']}: a reader that goes on from a lost row would miss new "
                "messages. Nothing is inserted. Run as its owner: GRANT UPDATE ON SEQUENCE "
                f"{numbering['sequence']} TO {numbering['role']}"
            ) from error


async def _advance(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute(_LOCK)  # two processes must not set a number back
        for found in await behind(connection):
            try:
                await connection.fetchval(_ADVANCE, found.sequence, found.wanted)
            except asyncpg.InsufficientPrivilegeError as error:
                raise Outage(
                    f"{found.sequence} gives numbers that older rows have (it stands at "
                    f"{found.last}; logical replication copies no sequences), so new messages "
                    "would be read before old ones. Nothing is inserted. Run as its owner: "
                    f"{found.remedy}"
                ) from error
            _log.warning(
                "A sequence was behind its rows, as after logical replication: advanced it",
                sequence=found.sequence,
                last=found.last,
                advanced_to=found.wanted,
            )
