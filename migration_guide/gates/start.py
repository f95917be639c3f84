"""Gate ``start``: the new reader starts no later than the first message not yet persisted.

It will start at PostgreSQL's position in its log. So in every partition, each unsettled record of
the log that is read now must be in the other log as well, in its home partition there, *after* that
position. Then no message is skipped; and because both logs agree on every order that a client can
observe, no message is reordered.

The check reads both logs and the rows, in bounded work, while traffic goes on. A record that seems
missing is searched again: it may have been on its way.

If one of the logs has ever lost records, the gate is unknown and an operator has to decide, because
no check can tell whether that log will lose more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from migration_guide.gates.losses import AFTER_A_LOSS, losses_in_words, lost_of
from migration_guide.gates.result import GateResult, Scene, green, red, unknown
from persistence.ownership.settled import settled_through
from persistence.worker.settled_query import SettlementQuery, UnsettledRecord, unsettled_record
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.message.envelope import HEADER_MESSAGE_ID
from transport.progress import progress_everywhere
from transport.shadow.homes import counterpart

__all__ = ["NAME", "gate"]

NAME = "start"

MOST = 20_000
"""The most records to check in one log, all partitions together; more is red, not a long wait."""
_PAGE = 1000
_AGAIN_SECONDS = (0.2, 0.5, 1.0, 2.0)


class _TooManyRecords(Exception):  # noqa: N818 - ends the work, answers red
    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


class _BoundedReader:
    def __init__(self, log: Transport) -> None:
        self._log = log
        self._left = MOST

    async def after(self, partition: int, position: str | None) -> list[UnsettledRecord]:
        """Return every record after a position, ready for a settlement query."""
        found: list[UnsettledRecord] = []
        while True:
            page = await self._log.read(
                Topic.MESSAGES, partition, after=position or None, limit=_PAGE
            )
            if not page:
                return found
            self._left -= len(page)
            if self._left < 0:
                raise _TooManyRecords(self._log.name)
            found += [unsettled_record(record) for record in page]
            position = page[-1].offset


async def gate(scene: Scene) -> GateResult:
    """Check every partition of both logs."""
    reads, will_read = scene.before.consume_from, scene.after.consume_from
    now, then = await scene.log(reads), await scene.log(will_read)
    try:
        return await _look(scene, now, then)
    except _TooManyRecords as error:
        return red(
            NAME,
            f"more than {MOST} records of {error.log} are unsettled: too many to check "
            "one by one; let the workers catch up first",
            {"log": error.log, "most": MOST},
        )


async def _look(scene: Scene, now: Transport, then: Transport) -> GateResult:
    starts = await progress_everywhere(then, Topic.MESSAGES, group=WORKER_GROUP)
    stands = await progress_everywhere(now, Topic.MESSAGES, group=WORKER_GROUP)
    if held := {at.partition: at.held for at in stands if at.held}:
        return unknown(
            NAME,
            f"{sum(held.values())} records of {now.name} (partitions "
            f"{', '.join(map(str, held))}) can't be read until another producer's transaction ends",
            {"held": held},
        )
    # Positions before records: a reader that starts later than seen here skips only records that
    # were settled in between.
    starts_after = await settled_through(scene.pool, then, [at.partition for at in starts])
    settled = await settled_through(scene.pool, now, [at.partition for at in stands])
    reader = _BoundedReader(now)
    evidence: dict[str, dict[str, object]] = {}
    for partition in (at.partition for at in stands):
        unread = await reader.after(partition, settled.get(partition))
        waiting = await _unsettled(scene, now, unread)
        missing = await _not_ahead(scene, now, then, starts_after, waiting)
        if waiting:
            first = (missing or waiting)[0].record
            start = starts_after.get(counterpart(first, now, then)) or None
            evidence[str(partition)] = {
                "unpersisted": len(waiting),
                "first": waiting[0].record.offset,
                "starts_after": start,
                "missing": [unsettled.record.offset for unsettled in missing[:5]],
            }
        if missing:
            identifier = first.headers.get(HEADER_MESSAGE_ID, b"?").decode("utf-8", "replace")
            return red(
                NAME,
                f"message {identifier} at {now.name} {partition}:{first.offset} is not "
                f"persisted, and {then.name} does not have it after {start}, where its reader "
                f"would start ({len(missing)} of partition {partition})",
                evidence,
            )
    total = sum(int(str(found["unpersisted"])) for found in evidence.values())
    ahead = (
        f"every message not yet persisted ({total}) is ahead of where {then.name}'s reader starts"
    )
    if lost := lost_of((then, starts), (now, stands)):
        return unknown(
            NAME,
            f"{ahead}, but {losses_in_words(lost)}",
            {**evidence, "lost": lost},
            remedy=AFTER_A_LOSS,
        )
    return green(NAME, ahead, evidence)


async def _unsettled(
    scene: Scene, log: Transport, asked: Sequence[UnsettledRecord]
) -> list[UnsettledRecord]:
    if asked:
        await SettlementQuery(scene.pool, log.name).ask(asked, letters=True)
    return [record for record in asked if not record.settled]


async def _not_ahead(
    scene: Scene,
    now: Transport,
    then: Transport,
    starts_after: Mapping[int, str],
    waiting: Sequence[UnsettledRecord],
) -> Sequence[UnsettledRecord]:
    """Return the records of ``waiting`` that are still unsettled and not ahead in ``then``.

    ``starts_after``: by partition of ``then``, the offset after which its reader would start.
    """
    missing = waiting
    for pause in (*_AGAIN_SECONDS, None):
        if not missing:
            break
        reader, ahead = _BoundedReader(then), set[tuple[int, bytes]]()
        for home in {counterpart(unsettled.record, now, then) for unsettled in missing}:
            found = await reader.after(home, starts_after.get(home))
            ahead.update((home, unsettled.record.body) for unsettled in found)
        missing = [
            unsettled
            for unsettled in missing
            if (counterpart(unsettled.record, now, then), unsettled.record.body) not in ahead
        ]
        missing = await _unsettled(scene, now, missing)
        if missing and pause is not None:
            await asyncio.sleep(pause)
    return missing
