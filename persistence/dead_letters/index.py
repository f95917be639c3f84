"""Write a row for each record of the dead-letter log, also for foreign programs' records.

A batch that PostgreSQL refuses is halved until the record at fault stands alone. Its row then holds
less: first without the fields decoded from its bytes, then without the bytes. So no letter keeps
later ones from being listed. The position moves in the transaction of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from otel.metrics import Metrics
from persistence.database.pool import Pool, using
from persistence.dead_letters.metrics import DeadLetterMetrics
from persistence.dead_letters.position import DeadLetterPosition
from persistence.dead_letters.rows import Row, insert_rows, plain_row_of, row_of, stub_of
from persistence.errors import PersistenceError, Rejected, TooSlow, Unexpected
from transport.contract import Record

__all__ = ["DeadLetterIndex"]

_log = structlog.get_logger(__name__)

# PostgreSQL refuses a message of 1 GiB, by closing the connection.
_MOST_BYTES = 900 << 20
_LARGE_BYTES = 16 << 20
"""From this size on, a letter may itself make a statement slow; below it, the server is slow."""
_ATTEMPTS = 3
_SLOW_SECONDS = 600.0

_Form = Callable[[str, Record], Row]
_FORMS: tuple[tuple[_Form, str], ...] = (
    (row_of, ""),
    (plain_row_of, "fields"),
    (stub_of, "bytes"),
)
"""Forms of a row, and what each lacks: each has less of the record than the one before."""


class DeadLetterIndex:
    """Writes the rows of the table ``dead_letters``, and keeps the position that it left.

    ``patience``: for this many seconds, a slow statement with a large letter is put down to a slow
    server, and not to the letter.
    """

    def __init__(
        self, pool: Pool, transport: str, metrics: Metrics, *, patience: float = _SLOW_SECONDS
    ) -> None:
        self._patience = patience
        self._slow_since: dict[str, float] = {}
        self._pool = pool
        self._transport = transport
        self.position = DeadLetterPosition(pool, transport)
        self._incomplete = metrics.of(DeadLetterMetrics).incomplete

    async def add(self, records: Sequence[Record]) -> None:
        """Make a row of each record, in order, and move the position. Repeats change nothing.

        Raises:
            FenceLost: PostgreSQL is not at the position that was left. Read the position, and
                index from there.
            Outage: the database can't do it now. Some rows may exist; call again.
        """
        waiting = [(0, len(records))]  # a stack, the left half on top
        while waiting:
            start, end = waiting.pop()
            some = records[start:end]
            try:
                if _size(some) > _MOST_BYTES:
                    raise TooSlow("more than PostgreSQL takes in one message")  # noqa: TRY301
                await self._insert(row_of, some)
            except Exception as error:
                if not _may_be_its_fault(error):
                    raise
                if len(some) > 1:
                    middle = (start + end) // 2
                    waiting += [(middle, end), (start, middle)]
                else:
                    await self._alone(some[0])
        if records and self.position.through != records[-1].offset:
            await self.position.move(records[-1].offset)  # no form of the last one has a row

    async def _alone(self, record: Record) -> None:
        size = _size([record])
        forms = _FORMS if size <= _MOST_BYTES else _FORMS[-1:]
        for form, lacks in forms:
            error = await self._attempt(form, record, size)
            if error is None:
                self._slow_since.pop(record.offset, None)
                if lacks:
                    self._tell(record, lacks)
                return
            if not isinstance(error, Rejected) and form is stub_of:
                raise error
        self._tell(record, "row")

    async def _attempt(self, form: _Form, record: Record, size: int) -> Exception | None:
        """Try to insert a row of one form; return the error if it rules this form out."""
        for attempt in range(_ATTEMPTS):
            try:
                await self._insert(form, [record])
            except (TooSlow, Unexpected) as error:
                # Neither error blames the letter: the cause may be the network, or the server.
                if isinstance(error, TooSlow) and self._is_server_slow(record, size):
                    raise
                await self._probe()
                if attempt + 1 == _ATTEMPTS:
                    return error
            except Exception as error:
                if not _may_be_its_fault(error):
                    raise
                return error
            else:
                return None
        return None

    def _is_server_slow(self, record: Record, size: int) -> bool:
        """Return whether to wait for a faster server, instead of listing less of a letter.

        A busy server is no reason to leave a letter's bytes out of the table. But no letter may
        keep later ones from being listed for ever.
        """
        since = self._slow_since.setdefault(record.offset, time.monotonic())
        return size < _LARGE_BYTES or time.monotonic() - since < self._patience

    async def _insert(self, form: _Form, records: Sequence[Record]) -> None:
        rows = [form(self._transport, record) for record in records]
        through = records[-1].offset
        async with using(self._pool) as connection, connection.transaction():
            await insert_rows(connection, rows)
            await self.position.move_in(connection, through)
        self.position.through = through

    async def _probe(self) -> None:
        """Check that the database answers now.

        Raises:
            Outage: it does not, so nothing is known about the letter.
        """
        async with using(self._pool) as connection:
            await connection.execute("SELECT 1")

    def _tell(self, record: Record, lacks: str) -> None:
        self._incomplete.labels(lacks).inc()
        _log.warning(
            "Dead letter stored incompletely in PostgreSQL; the log has all of it",
            transport=self._transport,
            offset=record.offset[:100],
            lacks=lacks,
            bytes=_size([record]),
        )


def _may_be_its_fault(error: Exception) -> bool:
    """Return whether ``error`` may come from the records' contents, and not from the database."""
    return not isinstance(error, PersistenceError) or isinstance(
        error, Rejected | TooSlow | Unexpected
    )


def _size(records: Sequence[Record]) -> int:
    return sum(
        len(record.key)
        + len(record.body)
        + sum(len(name) + len(value) for name, value in record.headers.items())
        for record in records
    )
