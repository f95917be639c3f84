"""The writer: one batch, one statement, one transaction (promises 2 and 3).

The statement is in ``persistence.store.statement``. It commits as a whole or not at all, so
there is no transaction to open, to keep short or to roll back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import accumulate, chain, pairwise

from persistence.array_literals import of_plain, of_texts
from persistence.database.pool import Connection, Pool, asks_again, using
from persistence.errors import Contended, FenceLost, LeftOut, Rejected
from persistence.sequences import advance_sequences, pass_lost_numbers
from persistence.store.batch import Fence, FencedBatch, PositionedEvent, Written
from persistence.store.classification import judge, message_keys, receipt_keys, split_new
from persistence.store.columns import columns, parameters
from persistence.store.locks import locks_of
from persistence.store.positions import (
    KnownPosition,
    Opened,
    known_positions,
    move_position,
    open_position,
)
from persistence.store.statement import HELD, INSERT, MOVE, PROBE

__all__ = ["Writer", "insert"]

_CONTENDED_RETRIES = 3
_TOGETHER_LOCK_MS = "1000"
"""The longest wait of a statement of several partitions for a lock, in milliseconds."""


class _Undone(Exception):  # noqa: N818 - no error: it ends a transaction by its rollback
    pass


class Writer:
    """Writes batches. Shared by every worker task of a process, and by the direct ingress."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self, transport: str, partition: int, epoch: int, log: str) -> Opened:
        """Give the position of a partition to the owner that has ``epoch`` in ``fences``.

        Waits for the last owner's statement if one is under way, because it moves the position.

        Args:
            transport: The log.
            partition: The partition.
            epoch: The owner's epoch.
            log: The identity of the owner's log.

        Returns:
            The position that is committed with the rows. It is empty where PostgreSQL knows none in
            this log.

        Raises:
            FenceLost: another owner has the partition.
            Outage: the database can't do it now.
        """
        async with self.connection() as connection, connection.transaction():
            await advance_sequences(connection, anew=True)
            held = await connection.fetchval(HELD, transport, partition)
            if held != epoch:
                raise FenceLost(
                    f"partition {partition} of {transport} is held with epoch {held}, not {epoch}",
                    held,
                )
            return await open_position(connection, transport, partition, epoch, log)

    async def pass_lost_numbers(self) -> None:
        """Number the rows that come beyond those that PostgreSQL lost.

        Raises:
            Outage: the database can't do it now, or this role may not.
        """
        async with using(self._pool) as connection:
            await pass_lost_numbers(connection)

    async def move(self, fence: Fence, through: str) -> None:
        """Move the partition's position to ``through``, without inserting a row.

        Raises:
            FenceLost: a newer owner has the partition, or the position is not where this one left
                it.
            Outage: the database can't do it now.
        """
        async with using(self._pool) as connection:
            place = await move_position(
                connection,
                fence.transport,
                fence.partition,
                fence.epoch,
                through=through,
                before=fence.through,
                at=fence.place,
            )
        if place is None:
            raise _lost(fence)
        fence.through, fence.place = through, place

    async def positions(
        self, transport: str, partitions: Sequence[int]
    ) -> Mapping[int, KnownPosition]:
        """Return the position of each of ``partitions`` that has one.

        Raises:
            Outage: the database can't answer now.
        """
        async with using(self._pool) as connection:
            return await known_positions(connection, transport, partitions)

    async def probe(self) -> None:
        """Check that batches can be written: connected, migrated, permitted, not read-only.

        The check leaves nothing behind.

        Raises:
            Outage: batches can't be written.
        """
        async with using(self._pool) as connection:
            await connection.prepare(INSERT)
            with suppress(_Undone):
                async with connection.transaction():
                    await connection.execute(PROBE)
                    raise _Undone

    async def write(self, batch: Sequence[PositionedEvent], fence: Fence | None) -> Written:
        """Insert ``batch`` in its order, all or nothing, and return the outcome of each record.

        With a fence, all records are of its partition. Without one (the direct ingress), they may
        be of several. All come from one transport.

        Raises:
            FenceLost: a newer owner has the partition; nothing was written.
            Rejected: some record of it can't be stored. Others may have been written, if an index
                or a trigger of your own leaves this one out.
            Outage: the database can't do it now; it *may* have been written. Retry the same.
        """
        if not batch:
            return Written([], [], [])
        for _ in range(_CONTENDED_RETRIES):
            with suppress(Contended):
                return await self._write(batch, fence)
        try:
            return await self._write(batch, fence)
        except LeftOut as error:
            raise Rejected(
                "PostgreSQL leaves it out without an error: a unique index or a trigger of your own"
            ) from error

    async def _write(self, batch: Sequence[PositionedEvent], fence: Fence | None) -> Written:
        async with self.connection() as connection:
            return await insert(connection, batch, fence)

    async def write_unless_locked(
        self, batch: Sequence[PositionedEvent], fence: Fence | None
    ) -> Written:
        """Write once, as ``write`` does, and give up if a lock takes more than a second.

        Raises:
            Contended: another transaction stood in the way; nothing was written.
        """
        async with self.connection() as connection:
            return await insert(connection, batch, fence, wait=_TOGETHER_LOCK_MS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for ``write_together``. The block raises our errors, not asyncpg's.

        Sequences that are behind their rows are advanced first.
        """
        async with using(self._pool) as connection:
            await advance_sequences(connection)
            yield connection

    async def write_together(
        self, batches: Sequence[FencedBatch], connection: Connection
    ) -> list[Written | FenceLost]:
        """Insert batches of different partitions of one log, in one statement; see ``write``.

        Returns the outcome of each batch, in their order. A batch whose partition has a newer owner
        is not written; the others are.

        Raises:
            Rejected: a record can't be stored; nothing was written.
            Contended: another transaction stood in the way; nothing was written.
            Outage: the database can't do it now; it *may* have been written.

        The block of ``connection`` translates asyncpg's errors into these.
        """
        asks_again(connection)
        fences = [batch.fence for batch in batches]
        records = list(chain.from_iterable(batch.records for batch in batches))
        passed = [batch.records[-1].offset for batch in batches]
        written, lost = await _insert(
            connection, records, fences, passed=passed, wait=_TOGETHER_LOCK_MS
        )
        return [
            _lost(fence) if fence.partition in lost else part
            for fence, part in zip(fences, _parts(written, batches), strict=True)
        ]


async def insert(
    connection: Connection,
    batch: Sequence[PositionedEvent],
    fence: Fence | None = None,
    *,
    wait: str | None = None,
) -> Written:
    """Write once, as ``Writer.write`` does, on a connection (in its transaction, if any).

    ``wait`` is the longest wait for a lock, in milliseconds; without it, the connection's setting
    counts. asyncpg's errors are raised as they are: wrap the call in ``using`` or ``translated``.
    """
    fences, passed = ([fence], [batch[-1].offset]) if fence else (None, ())
    written, lost = await _insert(connection, batch, fences, passed=passed, wait=wait)
    if fence is not None and lost:
        raise _lost(fence)
    return written


def _lost(fence: Fence) -> FenceLost:
    return FenceLost(
        f"partition {fence.partition} of {fence.transport} has a newer owner, or PostgreSQL has "
        "another position or another chain than the one that this owner read"
    )


def _parts(written: Written, batches: Sequence[FencedBatch]) -> list[Written]:
    """Split the outcome of a joint statement into one for each batch."""
    sizes = [len(batch.records) for batch in batches]
    if len(written.persisted) == sum(sizes):  # as nearly always: each record is a new row
        return [Written(list(range(size)), [], []) for size in sizes]
    bounds = [0, *accumulate(sizes)]

    def split(indexes: list[int]) -> Iterator[list[int]]:
        for start, end in pairwise(bounds):
            low, high = bisect_left(indexes, start), bisect_left(indexes, end)
            yield [index - start for index in indexes[low:high]]

    lists = (written.persisted, written.duplicates, written.conflicts)
    return list(map(Written, *map(split, lists)))


async def _insert(
    connection: Connection,
    batch: Sequence[PositionedEvent],
    fences: Sequence[Fence] | None,
    *,
    passed: Sequence[str] = (),
    wait: str | None = None,
) -> tuple[Written, set[int]]:
    """Insert; return the outcome, and the partitions whose fence is lost.

    The outcome has no records of lost partitions. ``passed`` has the last offset of each fence's
    records.
    """
    messages, receipts = columns(batch)
    pairs = list(zip(fences or (), passed, strict=True))
    after = [_after(fence, offset) for fence, offset in pairs]
    held = (None,) * 6 if fences is None else _parameters(fences, after)
    locks = locks_of(messages.values["partition"], messages.values["conversation_id"])
    row = await connection.fetchrow(
        INSERT,
        of_plain(locks),
        batch[0].transport,
        *held[:2],
        wait,
        *held[2:],
        *parameters(messages, receipts),
    )
    assert row is not None
    lost = {fence.partition for fence in fences or ()}.difference(row["owned"])
    moved = {int(partition): (place, through) for partition, place, through in row["moved"] or ()}
    left = list[tuple[Fence, str]]()
    for (fence, _), offset in zip(pairs, after, strict=True):
        if fence.partition in moved:
            fence.place, fence.through = moved[fence.partition]
            if fence.through != offset:
                left.append((fence, offset))
    if lost and len(lost) == len(fences or ()):
        return Written([], [], []), lost
    if lost:
        messages, receipts = messages.without(lost), receipts.without(lost)
    placed, again = split_new(
        messages.indexes, message_keys(messages), row["placed_count"], row["placed"]
    )
    duplicates, conflicts = again, list[int]()
    if again:
        duplicates, conflicts = await judge(connection, messages, set(again))
    if receipts.indexes:
        received, earlier = split_new(
            receipts.indexes, receipt_keys(receipts), row["received_count"], row["received"]
        )
        placed = sorted(placed + received)
        duplicates = sorted(duplicates + earlier)
    if left:
        odd = {batch[index].partition for index in conflicts}
        lost |= await _move(connection, [one for one in left if one[0].partition not in odd])
    return Written(placed, duplicates, conflicts), lost


def _after(fence: Fence, offset: str) -> str:
    """Return the position of a partition behind a statement whose last record is at ``offset``."""
    return fence.through if fence.stays else offset


async def _move(connection: Connection, moves: Sequence[tuple[Fence, str]]) -> set[int]:
    """Move positions whose rows are inserted; return the partitions whose fence is lost."""
    if not moves:
        return set()
    fences, after = [fence for fence, _ in moves], [offset for _, offset in moves]
    rows = await connection.fetch(MOVE, fences[0].transport, *_parameters(fences, after)[:-1])
    places = {row["partition"]: row["place"] for row in rows}
    for fence, offset in moves:
        if fence.partition in places:
            fence.through, fence.place = offset, places[fence.partition]
    return {fence.partition for fence in fences}.difference(places)


def _parameters(fences: Sequence[Fence], after: Sequence[str]) -> tuple[str, ...]:
    """Return fences as statements take them; ``after`` has the positions to move to."""
    return (
        of_plain([fence.partition for fence in fences]),
        of_plain([fence.epoch for fence in fences]),
        of_texts([fence.through for fence in fences]),
        of_texts(after),
        of_texts([fence.place for fence in fences]),
        of_plain([fence.chain for fence in fences]),
    )
