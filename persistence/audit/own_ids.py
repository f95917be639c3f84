"""Records whose message id is not the derived one, which an earlier release stored as rows.

The codec refuses them (record 174 of DECISIONS.md). If a row names the position of such a record,
it was made from the record, so no row is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from persistence.audit.report import OwnId
from persistence.database.pool import Pool, using
from transport.contract import Record

__all__ = ["with_own_ids"]

_ROWS = """
SELECT id, partition, log_offset FROM messages WHERE id = ANY($1::uuid[]) AND transport = $2
"""


class _Claimed(msgspec.Struct, rename="camel"):
    message_id: UUID


async def with_own_ids(pool: Pool, log: str, undecodable: Sequence[Record]) -> list[OwnId]:
    """Return those of ``undecodable``, records of ``log``, that are rows under their own ids."""
    claimed = [(record, claim) for record in undecodable if (claim := _claimed(record))]
    if not claimed:
        return []
    async with using(pool) as connection:
        rows = await connection.fetch(_ROWS, [identifier for _, identifier in claimed], log)
    places = {(row["id"], row["partition"], row["log_offset"]) for row in rows}
    return [
        OwnId(record.partition, record.offset, str(identifier))
        for record, identifier in claimed
        if (identifier, record.partition, record.offset) in places
    ]


def _claimed(record: Record) -> UUID | None:
    """Return the id in a record, if it has a valid one."""
    try:
        return msgspec.json.decode(record.body, type=_Claimed).message_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
