"""Gaps: records whose rows PostgreSQL lost and that left the log. An operator accepts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from persistence.database.pool import Pool, using
from persistence.operator_actions import record_done
from persistence.store.positions import known_positions, set_position
from persistence.store.rows_put_back import ACCEPTED
from persistence.worker.recovery.log_begin import before_first, holds_all
from persistence.worker.recovery.positions import acknowledged_through, is_behind
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.progress import progress_everywhere

__all__ = ["Gap", "accept", "gaps"]


class Gap(msgspec.Struct, frozen=True, rename="camel"):
    """Records that a partition's log no longer holds, and that may have no row.

    ``through`` is PostgreSQL's position, empty at the beginning. ``resumes_after`` is the offset
    just before the first record that the log holds; if it holds none, the group's position.
    """

    partition: int
    through: str
    resumes_after: str | None


async def gaps(log: Transport, pool: Pool, partitions: Sequence[int]) -> list[Gap]:
    """Return the gaps of ``partitions``. The worker of a partition with a gap waits, or will.

    Raises:
        Outage, TransportUnavailable: PostgreSQL or the log can't answer now.
    """
    async with using(pool) as connection:
        known = await known_positions(connection, log.name, partitions)
    progress = {
        part.partition: part
        for part in await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    }
    found = [await _gap(log, partition, known, progress) for partition in partitions]
    return [gap for gap in found if gap]


async def _gap(
    log: Transport,
    partition: int,
    known: Mapping[int, str | None],
    progress: Mapping[int, Progress],
) -> Gap | None:
    through = known.get(partition)
    if through is None or partition not in progress:
        return None
    acknowledged = acknowledged_through(progress[partition])
    if acknowledged is not None and not is_behind(log, through, acknowledged):
        return None
    if await holds_all(log, Topic.MESSAGES, partition, through):
        return None
    first = await before_first(log, Topic.MESSAGES, partition)
    return Gap(partition, through, acknowledged if first is None else first)


async def accept(log: Transport, pool: Pool, gap: Gap, *, who: str, why: str) -> bool:
    """Let a partition go on after its gap; return whether its position was still the gap's.

    The worker first persists the records that the log holds, in order.
    """
    async with using(pool) as connection, connection.transaction():
        moved = await set_position(
            connection, log.name, gap.partition, gap.resumes_after, before=gap.through
        )
        if moved:
            await record_done(
                connection,
                who=who,
                action=ACCEPTED,
                target=f"{log.name}/{gap.partition}",
                why=why,
                result=f"PostgreSQL was at {gap.through or 'the beginning'}; "
                f"it goes on after {gap.resumes_after or 'the place of the workers'}",
            )
    return moved
