"""Tell new rows, repeats and conflicts apart, from what the insert answered.

The insert says which keys made a row. A message whose key or id existed is a repeat if it has the
same body as the first one, and a conflict otherwise (promise 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from persistence.database.pool import Connection
from persistence.errors import LeftOut
from persistence.store.columns import BatchColumns
from persistence.store.statement import CLASSIFY, CLASSIFY_BY_KEY

__all__ = ["judge", "message_keys", "receipt_keys", "split_new"]


async def judge(
    connection: Connection, messages: BatchColumns, again: set[int]
) -> tuple[list[int], list[int]]:
    """Return the indexes of repeats and of conflicts, among messages whose key or id existed."""
    waiting = [
        (index, identifier, key, body)
        for index, identifier, key, body in zip(
            messages.indexes,
            messages.values["id"],
            messages.values["idempotency_key"],
            messages.values["fingerprint"],
            strict=True,
        )
        if index in again
    ]
    rows = await connection.fetch(CLASSIFY, [identifier for _, identifier, _, _ in waiting])
    owners = {row["id"]: row["idempotency_key"] for row in rows if row["idempotency_key"]}
    bodies = {row["idempotency_key"]: row["fingerprint"] for row in rows if row["idempotency_key"]}
    buried = {row["id"]: row["fingerprint"] for row in rows if not row["idempotency_key"]}
    odd = [key for _, i, key, _ in waiting if owners.get(i) != key and i not in buried]
    if odd:
        others = await connection.fetch(CLASSIFY_BY_KEY, odd)
        bodies |= {row["idempotency_key"]: row["fingerprint"] for row in others}
    same, other = list[int](), list[int]()
    for index, identifier, key, body in waiting:
        if key not in bodies and identifier not in buried and identifier not in owners:
            raise LeftOut("no row was inserted, and the row that stood in the way is gone")
        # An erased message has no fingerprint, so another body can't be detected: it is a repeat.
        # If no row has the key, the id is another key's; no log has such a record
        # (``transport.message.envelope.decode``).
        known = bodies.get(key, buried.get(identifier, ""))
        (same if known is None or known == body else other).append(index)
    return same, other


def message_keys(messages: BatchColumns) -> Iterator[str]:
    """Return the messages' names as the statement spells them: id and key.

    Both are needed, because a foreign producer's record may share one of them with another message.
    Names are made one by one as they are asked for; mostly none is.
    """
    values = messages.values
    pairs = zip(values["id"], values["idempotency_key"], strict=True)
    return (f"{identifier}/{key}" for identifier, key in pairs)


def receipt_keys(receipts: BatchColumns) -> Iterator[str]:
    """Return the receipts' keys as the statement spells them."""
    values = receipts.values
    rows = zip(values["message_id"], values["state"], values["user_id"], strict=True)
    return (f"{message_id}/{state}/{user_id}" for message_id, state, user_id in rows)


def split_new(
    indexes: list[int], keys: Iterable[str], count: int, new: Sequence[str] | None
) -> tuple[list[int], list[int]]:
    """Split ``indexes`` into new ones and duplicates. Of equal keys, the first is new."""
    if count == len(indexes):
        return indexes, []
    left = set(new or ())
    fresh, earlier = list[int](), list[int]()
    for index, key in zip(indexes, keys, strict=True):
        if key in left:
            left.discard(key)
            fresh.append(index)
        else:
            earlier.append(index)
    return fresh, earlier
