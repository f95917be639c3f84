"""One statement for the batches of all partitions that have one ready.

A statement costs PostgreSQL and its driver far more than a row does, and partitions that are worked
on one by one have few rows each. So whatever is handed in while a statement is under way waits,
and makes the next one: no timer, and no wait where nothing else is to be written.

No partition depends on another (promise 6). Where a joint statement is refused, each batch of it
is written alone, and only what *that* statement says counts. A partition that failed alone stays
alone until several of its statements have succeeded in a row: the halves of a batch that is
bisected are, and a stream of bad records spoils the statements of its own partition only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence

from persistence.errors import Contended, FenceLost, Outage, Unexpected
from persistence.store.batch import Fence, FencedBatch, PositionedEvent, Written
from persistence.store.writer import Writer

__all__ = ["STATEMENT_BYTES", "Attempted", "GroupWriter"]

# A statement has to stay far below the protocol's limit of 1 GiB, and be quick.
STATEMENT_BYTES = 8 * 2**20
_CLEAN_STATEMENTS = 8

Attempted = Callable[[int, BaseException | None], None]
"""Told of each attempt on a batch: when it began (ns), and its error."""


class _Part:
    """A batch that was handed in, and whoever waits for its outcome."""

    __slots__ = ("attempted", "batch", "partition", "size", "waiter")

    def __init__(self, batch: FencedBatch, attempted: Attempted) -> None:
        self.batch = batch
        self.partition = batch.fence.partition
        self.size = sum(record.size for record in batch.records)
        self.attempted = attempted
        self.waiter: asyncio.Future[Written] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Written | Exception) -> None:
        if self.waiter.done():
            return
        if isinstance(outcome, Exception):
            self.waiter.set_exception(outcome)
        else:
            self.waiter.set_result(outcome)


class GroupWriter:
    """Writes the batches of one log's partitions, many in a statement.

    ``most_rows`` is the size of a statement; a batch of more has one to itself. ``slots`` is how
    many statements may be under way. A full one begins beside others; a smaller one waits for those
    under way, and grows meanwhile.
    """

    def __init__(self, writer: Writer, *, most_rows: int, slots: int) -> None:
        self._writer = writer
        self._most_rows = most_rows
        self._most_joint = max(1, slots - 1)
        # Their own, so that none of them, however long it takes, holds up a joint statement.
        self._alone_slots = asyncio.Semaphore(max(1, slots // 2))
        self._waiting: list[_Part] = []
        self._running: dict[asyncio.Task[None], Sequence[_Part]] = {}
        self._joint = 0
        self._busy: set[int] = set()
        self._suspects: dict[int, int] = {}
        self._is_due = False

    async def write(
        self, records: Sequence[PositionedEvent], fence: Fence, attempted: Attempted
    ) -> Written:
        """Do what :meth:`Writer.write` does for one partition, in a statement with others' records.

        ``attempted`` is told of each statement. A call that is cancelled leaves its statement to
        the others in it, so its records may be written.
        """
        if not records:
            return Written([], [], [])
        part = _Part(FencedBatch(records, fence), attempted)
        self._waiting.append(part)
        if not self._is_due:
            # Not at once: what others hand in during this turn of the loop is to be part of it.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)
        try:
            return await part.waiter
        except asyncio.CancelledError:
            self._abandon(part)
            raise

    def _abandon(self, part: _Part) -> None:
        if part in self._waiting:
            self._waiting.remove(part)
        for task, parts in self._running.items():
            if all(one.waiter.cancelled() for one in parts):
                task.cancel()

    def _begin(self) -> None:
        """Begin the statements that may begin now."""
        self._is_due = False
        if self._suspects:
            for part in [one for one in self._waiting if one.partition in self._suspects]:
                if part.partition not in self._busy:
                    self._waiting.remove(part)
                    self._run(self._write_alone(part), [part])
        while self._joint < self._most_joint and (parts := self._next()):
            self._joint += 1
            self._run(self._write_together(parts), parts)

    def _next(self) -> Sequence[_Part]:
        """Take the parts of the next joint statement, if there is to be one now."""
        chosen, left = list[_Part](), list[_Part]()
        partitions, rows, size, is_full = set[int](), 0, 0, False
        for part in self._waiting:
            if part.partition in self._busy or part.partition in partitions:
                left.append(part)  # of an earlier claim, whose statement has to end first
                continue
            rows += len(part.batch.records)
            size += part.size
            is_full = is_full or rows >= self._most_rows or size >= STATEMENT_BYTES
            if chosen and (rows > self._most_rows or size > STATEMENT_BYTES):
                left.append(part)
                continue
            chosen.append(part)
            partitions.add(part.partition)
        if self._joint and not is_full:
            return ()
        self._waiting = left
        return chosen

    def _run(self, writing: Coroutine[None, None, None], parts: Sequence[_Part]) -> None:
        self._busy.update(part.partition for part in parts)
        task = asyncio.create_task(writing)
        self._running[task] = parts
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        parts = self._running.pop(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            for part in parts:  # a mistake of ours: shown where the batch is, not lost
                part.end(error)
        self._busy.difference_update(part.partition for part in parts)
        self._busy.update(part.partition for others in self._running.values() for part in others)
        self._begin()

    async def _write_together(self, parts: Sequence[_Part]) -> None:
        began = time.time_ns()
        outcomes: Sequence[Written | Exception]
        try:
            outcomes = await self._writer.write_together([part.batch for part in parts])
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            outcomes = [error] * len(parts)
        finally:
            self._joint -= 1
        for part, outcome in zip(parts, outcomes, strict=True):
            part.attempted(began, outcome if isinstance(outcome, Exception) else None)
            if _is_verdict(outcome, of_one=len(parts) == 1):
                self._end(part, outcome)
            else:
                self._run(self._write_alone(part), [part])

    async def _write_alone(self, part: _Part) -> None:
        outcome: Written | Exception
        async with self._alone_slots:
            began = time.time_ns()
            try:
                outcome = await self._writer.write(part.batch.records, part.batch.fence)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                outcome = error
        part.attempted(began, outcome if isinstance(outcome, Exception) else None)
        self._end(part, outcome)

    def _end(self, part: _Part, outcome: Written | Exception) -> None:
        partition = part.partition
        if isinstance(outcome, Exception) and not isinstance(outcome, FenceLost):
            self._suspects[partition] = _CLEAN_STATEMENTS
        elif partition in self._suspects:
            self._suspects[partition] -= 1
            if not self._suspects[partition]:
                del self._suspects[partition]
        part.end(outcome)


def _is_verdict(outcome: Written | Exception, *, of_one: bool) -> bool:
    """Return whether the outcome of a joint statement is that of a batch in it.

    An outage is: what its cause is can't be told apart, and who waits it out comes back alone.
    """
    if isinstance(outcome, Written | FenceLost):
        return True
    if isinstance(outcome, Contended):
        return False  # written alone, it may wait longer, and is tried again
    return of_one or (isinstance(outcome, Outage) and not isinstance(outcome, Unexpected))
