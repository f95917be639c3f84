"""Remove the subject's id from operators' records: actions, orders of jobs, samples of parity."""

from __future__ import annotations

import msgspec

from persistence.database.pool import Pool, using
from persistence.reads.tombstones import erased
from persistence.retention.subject import Subject

__all__ = ["forget_mentions"]

_ACTIONS = {
    "sender": "UPDATE operator_actions SET target = 'a message of ' || $3 || ' in ' "
    "|| substr(target, length('a message of ' || $1 || ' in ') + 1) "
    "WHERE starts_with(target, $2)",
    "conversation": "UPDATE operator_actions SET target = "
    "left(target, length(target) - length($1)) || $3 "
    "WHERE right(target, length($2)) = $2",
}
_PREFIX = {"sender": "a message of {} in ", "conversation": " in {}"}
_SELECTED = """
UPDATE operator_actions SET target = replace(target, 'conversationId ' || $1, $2)
WHERE position('conversationId ' || $1 IN target) > 0
"""
_JOBS = """
UPDATE jobs SET request = jsonb_set(request, '{selection,conversationId}', to_jsonb($2::text))
WHERE request -> 'selection' ->> 'conversationId' = $1
"""
_SAMPLES = """
SELECT id, samples FROM parity_reports WHERE samples <> '[]' AND id > $1 ORDER BY id LIMIT 200
"""
_RESAMPLE = "UPDATE parity_reports SET samples = $2 WHERE id = $1"
_FIRST = "00000000-0000-0000-0000-000000000000"


async def forget_mentions(pool: Pool, subject: Subject) -> None:
    """Replace the subject's id by its label, and remove samples of erased messages.

    Raises:
        Outage: PostgreSQL can't do it now.
    """
    named = _PREFIX[subject.kind].format(subject.value)
    async with using(pool) as connection, connection.transaction():
        await connection.execute(_ACTIONS[subject.kind], subject.value, named, subject.label)
        if subject.kind == "conversation":
            await connection.execute(_SELECTED, subject.value, subject.label)
            await connection.execute(_JOBS, subject.value, subject.label)
    await _forget_samples(pool)


async def _forget_samples(pool: Pool) -> None:
    last: object = _FIRST
    while True:
        async with using(pool) as connection:
            rows = await connection.fetch(_SAMPLES, last)
        if not rows:
            return
        last = rows[-1]["id"]
        for row in rows:
            samples = msgspec.json.decode(row["samples"])
            gone = await erased(pool, [sample["messageId"] for sample in samples])
            kept = [sample for sample in samples if sample["messageId"] not in gone]
            if len(kept) < len(samples):
                async with using(pool) as connection:
                    await connection.execute(
                        _RESAMPLE, row["id"], msgspec.json.encode(kept).decode()
                    )
