"""Write the batches that several partitions have ready in one statement.

A statement costs PostgreSQL and its driver far more than a row does, and a partition that writes
alone has few rows for each statement. So batches that are written while a statement is under way
wait, and form the next statement. If messages arrive one after another, a statement would still
have only one or two rows. So a statement that closely follows another waits some milliseconds for
more rows. The first statement after a pause begins at once, and so does one with enough rows.

No partition depends on another (promise 6). If PostgreSQL refuses a joint statement, each of its
batches is written alone, and only the outcome of *that* statement counts. A partition that failed
alone stays alone until several of its statements have succeeded in a row. So the halves of a
bisected batch are written alone, and bad records spoil only their own partition's statements.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager

from persistence.errors import Contended, FenceLost, Outage, Unexpected
from persistence.store.batch import Fence, FencedBatch, PositionedEvent, Written
from persistence.store.writer import Writer

__all__ = ["STATEMENT_BYTES", "Attempted", "GroupWriter", "PendingBatch"]

# A statement has to stay far below the protocol's limit of 1 GiB, and be quick.
STATEMENT_BYTES = 8 * 2**20
_CLEAN_STATEMENTS = 8
# The fixed cost of a statement, in PostgreSQL and its driver, is that of some 16 rows.
_FEW_ROWS = 48
_PACE_SECONDS = 0.005
# After this time, other partitions no longer wait for a joint statement to end.
_OVERDUE_SECONDS = 1.0

Attempted = Callable[[int, BaseException | None], None]
"""Called after each attempt on a batch: with its beginning (Unix time, ns) and its error."""
_Write = Callable[[Sequence[PositionedEvent], Fence], Awaitable[Written]]


class PendingBatch:
    """A batch of one partition that waits for its statement, with the future of its outcome."""

    __slots__ = ("_attempted", "_began", "batch", "outcome", "partition", "rows", "size")

    def __init__(self, batch: FencedBatch, attempted: Attempted) -> None:
        self.batch = batch
        self.partition = batch.fence.partition
        self.rows = len(batch.records)
        self.size = sum([record.size for record in batch.records])
        self.outcome: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        """Done once its outcome is known, or its caller was cancelled."""
        self._attempted = attempted
        self._began = 0

    def begin(self) -> None:
        """Record that a statement with this batch begins."""
        self._began = 0 if self.outcome.done() else time.time_ns()

    def attempted(self, error: BaseException | None) -> None:
        """Report the end of the statement under way, if there is one; at most once for each."""
        if self._began:
            self._attempted(self._began, error)
        self._began = 0

    def end(self, outcome: Written | Exception) -> None:
        """Report the outcome, once."""
        if self.outcome.done():
            return
        if isinstance(outcome, Exception):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


class GroupWriter:
    """Writes the batches of one log's partitions, several batches in a statement.

    Args:
        writer: sends the statements.
        most_rows: rows of a full statement. A larger batch has a statement to itself.
        slots: how many statements may be under way. A full one begins beside others; a smaller one
            waits for those under way, and grows meanwhile.
        pace: seconds from the beginning of a statement of few rows to that of the next. The next
            one begins earlier if it has enough rows.
    """

    def __init__(
        self, writer: Writer, *, most_rows: int, slots: int, pace: float = _PACE_SECONDS
    ) -> None:
        self._writer = writer
        self._most_rows = most_rows
        self._pace = pace
        self._most_joint = max(1, slots - 1)
        # Single batches have slots of their own, so a slow one never delays a joint statement.
        self._alone_slots = asyncio.Semaphore(max(1, slots // 2))
        self._locked_slots = asyncio.Semaphore(1)
        self._waiting: dict[PendingBatch, None] = {}
        self._rows = self._bytes = 0  # of the batches that wait
        self._running: dict[asyncio.Task[None], Sequence[PendingBatch]] = {}
        self._joint = self._overdue = 0
        self._suspects: dict[int, int] = {}
        self._is_due = False
        self._lingering: asyncio.Future[None] | None = None

    async def write(
        self, records: Sequence[PositionedEvent], fence: Fence, attempted: Attempted
    ) -> Written:
        """Write records of one partition, in a statement with others; see ``Writer.write``.

        ``attempted`` is called for each statement. A cancelled call does not cancel a statement
        that other batches share, so its records may still be written.
        """
        if not records:
            return Written([], [], [])
        part = PendingBatch(FencedBatch(records, fence), attempted)
        self._wait(part)
        self._begin()
        try:
            return await part.outcome
        except asyncio.CancelledError as error:
            part.attempted(error)
            self._abandon(part)
            raise

    def _abandon(self, part: PendingBatch) -> None:
        if part in self._waiting:
            self._unwait(part)
        for task, parts in self._running.items():
            if part in parts and all(part.outcome.done() for part in parts):
                task.cancel()

    def _begin(self) -> None:
        """Begin the statements that may begin now."""
        self._begin_alone()
        if self._is_due or not self._may_begin(self._joint):
            return
        closed = self._busy().union(self._suspects)
        if any(part.partition not in closed for part in self._waiting):
            # The task takes batches when its turn comes, so it also has those that come until then.
            self._is_due = True
            self._run(self._write_in_turn(), ())

    def _begin_alone(self) -> None:
        if self._suspects:
            busy = self._busy()
            for part in [part for part in self._waiting if part.partition in self._suspects]:
                if part.partition not in busy:
                    busy.add(part.partition)
                    self._unwait(part)
                    self._run(self._write_alone(part), [part])

    def _may_begin(self, beside: int) -> bool:
        """Return whether a joint statement may begin while ``beside`` others are under way."""
        if beside >= self._most_joint:
            return False
        is_full = self._rows >= self._most_rows or self._bytes >= STATEMENT_BYTES
        return is_full or beside <= self._overdue

    def _wait(self, part: PendingBatch) -> None:
        self._waiting[part] = None
        self._grow(part.rows, part.size)

    def _grow(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        if self._rows >= _FEW_ROWS:
            self._end_linger()

    def _unwait(self, part: PendingBatch) -> None:
        del self._waiting[part]
        self._rows -= part.rows
        self._bytes -= part.size

    def _busy(self) -> set[int]:
        """Return the partitions of the statements under way."""
        return {part.partition for parts in self._running.values() for part in parts}

    def _take(self, beside: int | None = None) -> list[PendingBatch]:
        """Take waiting batches for the next joint statement; none if it may not begin yet."""
        if not self._may_begin(self._joint if beside is None else beside):
            return []
        chosen = list[PendingBatch]()
        # A partition has one statement at a time: that of an earlier claim has to end first.
        taken, rows, size = self._busy().union(self._suspects), 0, 0
        for part in self._waiting:
            if part.partition in taken:
                continue
            rows += part.rows
            size += part.size
            if chosen and (rows > self._most_rows or size > STATEMENT_BYTES):
                break
            chosen.append(part)
            taken.add(part.partition)
        for part in chosen:
            self._unwait(part)
        return chosen

    def _run(self, writing: Coroutine[None, None, None], parts: Sequence[PendingBatch]) -> None:
        task = asyncio.create_task(writing)
        self._running[task] = parts
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        parts = self._running.pop(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            for part in parts:  # a defect of ours: reported with the batch, not lost
                part.end(error)
        self._begin()

    async def _write_in_turn(self) -> None:
        """Write joint statements until no batch waits.

        They share one connection: handing it back and taking it again costs as much as a small
        statement.
        """
        task = asyncio.current_task()
        assert task is not None
        self._is_due = False
        while parts := self._take():
            self._joint += 1
            self._running[task] = parts
            try:
                async with self._writer.connection() as connection:
                    while parts:
                        self._running[task] = parts
                        self._begin()  # another beside it, if a full one still waits
                        for part in parts:
                            part.begin()
                        batches = [part.batch for part in parts]
                        rows, began = sum(part.rows for part in parts), time.monotonic()
                        with self._timed():
                            outcomes = await self._writer.write_together(batches, connection)
                        self._report(parts, outcomes)
                        self._running[task] = ()
                        self._begin_alone()
                        # The partitions of this statement read on, and may have their next batch.
                        await asyncio.sleep(0)
                        if rows < _FEW_ROWS:
                            await self._linger(began + self._pace)
                        parts = self._take(beside=self._joint - 1)
            except Exception as error:  # noqa: BLE001 - handed to the callers
                self._report(parts, [error] * len(parts))
            finally:
                self._joint -= 1
            self._running[task] = ()
            self._begin_alone()

    async def _linger(self, until: float) -> None:
        """Wait for more rows until there are enough, or until the monotonic time ``until``."""
        left = until - time.monotonic()
        if left <= 0 or self._rows >= _FEW_ROWS or self._lingering is not None:
            return
        loop = asyncio.get_running_loop()
        self._lingering = loop.create_future()
        timer = loop.call_later(left, self._end_linger)
        try:
            await self._lingering
        finally:
            timer.cancel()
            self._lingering = None

    def _end_linger(self) -> None:
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    def _report(
        self, parts: Sequence[PendingBatch], outcomes: Sequence[Written | Exception]
    ) -> None:
        for part, outcome in zip(parts, outcomes, strict=True):
            part.attempted(outcome if isinstance(outcome, Exception) else None)
            if _is_verdict(outcome, of_one=len(parts) == 1):
                self._end(part, outcome)
            elif not part.outcome.done():
                self._run(self._write_alone(part), [part])

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Let other statements begin beside the one in the block once it is overdue."""
        is_overdue = False

        def overdue() -> None:
            nonlocal is_overdue
            is_overdue = True
            self._overdue += 1
            self._begin()

        timer = asyncio.get_running_loop().call_later(_OVERDUE_SECONDS, overdue)
        try:
            yield
        finally:
            timer.cancel()
            self._overdue -= is_overdue

    async def _write_alone(self, part: PendingBatch) -> None:
        """Write one batch alone; if a lock stops it, again in the one slot for such batches."""
        async with self._alone_slots:
            outcome = await self._attempt(part, self._writer.write_unless_locked)
        if isinstance(outcome, Contended) and not part.outcome.done():
            async with self._locked_slots:
                outcome = await self._attempt(part, self._writer.write)
        self._end(part, outcome)

    async def _attempt(self, part: PendingBatch, write: _Write) -> Written | Exception:
        part.begin()
        try:
            outcome: Written | Exception = await write(part.batch.records, part.batch.fence)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            outcome = error
        part.attempted(outcome if isinstance(outcome, Exception) else None)
        return outcome

    def _end(self, part: PendingBatch, outcome: Written | Exception) -> None:
        partition = part.partition
        if isinstance(outcome, Exception) and not isinstance(outcome, FenceLost):
            self._suspects[partition] = _CLEAN_STATEMENTS
        elif self._suspects and partition in self._suspects:
            self._suspects[partition] -= 1
            if not self._suspects[partition]:
                del self._suspects[partition]
        part.end(outcome)


def _is_verdict(outcome: Written | Exception, *, of_one: bool) -> bool:
    """Return whether the outcome of a joint statement counts for a batch in it.

    An outage counts: no single batch can be named as its cause. Each caller waits it out, and then
    its batch is written alone.
    """
    if isinstance(outcome, Written | FenceLost):
        return True
    if isinstance(outcome, Contended):
        return False  # it is tried again alone, and may wait longer for locks
    return of_one or (isinstance(outcome, Outage) and not isinstance(outcome, Unexpected))
