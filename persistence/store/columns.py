"""A batch as columns: what ``unnest`` takes, and what asyncpg encodes without a loop of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from persistence.errors import Rejected
from persistence.store.batch import PositionedEvent
from persistence.tables import columns as tables
from transport.message.envelope import Message, Receipt

__all__ = ["MESSAGE", "RECEIPT", "SENT_RECEIPT", "BatchColumns", "InsertColumn", "columns"]

_MOST_ATTEMPTS = 32_767  # of a smallint


Records = Sequence[PositionedEvent]
Events = Sequence[Any]
"""The messages of the records, or their receipts."""


class InsertColumn(NamedTuple):
    """A column that the insert fills."""

    name: str
    type: str
    """PostgreSQL's, of the column."""
    values: Callable[[Records, Events], list[Any]]
    """From records and their events to the column's values."""
    usual: int | None = None
    """The value of most rows. A batch in which each has it sends no values of this column."""

    def sent(self, records: Records, events: Events) -> list[Any]:
        """Return the column's values, or no value where each record has the usual one.

        The driver looks at each value, and so does PostgreSQL. ``unnest`` pads a shorter array with
        nulls, which the statement replaces by the usual value. There is at least one record.
        """
        values = self.values(records, events)
        if values[0] == self.usual and values.count(self.usual) == len(values):
            return []
        return values


def _of_field(column: tables.Column) -> InsertColumn:
    """Return the column that holds a field of the event."""
    field, write = attrgetter(column.field), column.write
    if write is tables.as_it_is:
        return InsertColumn(column.name, column.type, lambda _, events: list(map(field, events)))
    if write is tables.or_null:  # mostly nothing: a call for each costs more than the rest of it
        return InsertColumn(
            column.name,
            column.type,
            lambda _, events: [None if v is UNSET else v for v in map(field, events)],
        )
    return InsertColumn(
        column.name, column.type, lambda _, events: [write(field(event)) for event in events]
    )


_PARTITION = InsertColumn("partition", "int", lambda records, _: [r.partition for r in records])

MESSAGE = (
    *map(_of_field, tables.MESSAGE),
    InsertColumn("fingerprint", "text", lambda _, events: [e.fingerprint() for e in events]),
    _PARTITION,
    InsertColumn("log_offset", "text", lambda records, _: [r.offset for r in records]),
    InsertColumn(
        "attempts",
        "smallint",
        lambda records, _: [min(r.attempts, _MOST_ATTEMPTS) for r in records],
        usual=1,
    ),
    InsertColumn("trace_id", "text", lambda records, _: [r.trace_id for r in records]),
)
"""The values of each message in a batch; the log's name, which all share, is beside them."""

RECEIPT = tuple(map(_of_field, tables.RECEIPT))

SENT_RECEIPT = (*RECEIPT, _PARTITION)
"""The values of each receipt in a batch: its row, and the partition whose fence it is under."""


class BatchColumns(msgspec.Struct):
    """The messages of a batch, or its receipts; ``indexes`` says where in it each stood."""

    indexes: list[int]
    values: dict[str, list[Any]]
    """By the name of the column, in the order of the statement's parameters.

    Of a column in which each record has the usual value there are none.
    """

    def without(self, partitions: AbstractSet[int]) -> BatchColumns:
        """Return the same without the records of ``partitions``."""
        kept = [partition not in partitions for partition in self.values["partition"]]
        return BatchColumns(
            list(compress(self.indexes, kept)),
            {name: list(compress(values, kept)) for name, values in self.values.items()},
        )


def columns(batch: Records) -> tuple[BatchColumns, BatchColumns]:
    """Return the messages and the receipts of ``batch``, each in its order.

    Raises:
        Rejected: some record has an id that is no UUID, or a time that is not RFC 3339.
    """
    try:
        return _columns(batch, Message, MESSAGE), _columns(batch, Receipt, SENT_RECEIPT)
    except ValueError as error:
        raise Rejected("an id is not a UUID, or a time is not RFC 3339 with an offset") from error


def _columns(batch: Records, kind: type, table: Sequence[InsertColumn]) -> BatchColumns:
    indexes = [i for i, record in enumerate(batch) if type(record.event) is kind]
    if not indexes:
        return BatchColumns(indexes, {column.name: [] for column in table})
    records = [batch[i] for i in indexes]
    events = [record.event for record in records]
    return BatchColumns(indexes, {column.name: column.sent(records, events) for column in table})
