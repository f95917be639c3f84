"""A batch as columns, in the form that ``unnest`` takes.

Most columns are sent as one text, which is cheaper than an array (``persistence.array_literals``).
Columns with long or null values are sent as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import UNSET

from persistence.array_literals import of_plain
from persistence.errors import Rejected
from persistence.store.batch import PositionedEvent
from persistence.tables import columns as tables
from transport.message.envelope import Message, Receipt

__all__ = [
    "MESSAGE",
    "RECEIPT",
    "SENT_RECEIPT",
    "BatchColumns",
    "InsertColumn",
    "ParameterForm",
    "columns",
    "insert_column",
    "parameters",
]

_MOST_ATTEMPTS = 32_767  # the largest smallint
_SEPARATOR = "\x1f"  # ASCII's "unit separator"; hardly any text has one


Records = Sequence[PositionedEvent]
Events = Sequence[Any]
"""The messages of the records, or their receipts."""


class ParameterForm(Enum):
    """The form in which a statement takes the values of a column."""

    ARRAY = "${number}::{type}[]"
    LITERAL = "${number}::text::{type}[]"
    """For numbers, ids and times. A literal of arbitrary texts costs more than an array."""
    SEPARATED = "string_to_array(${number}::text, ${separator})"
    """One text, with a separator between two values."""


class InsertColumn(NamedTuple):
    """A column that the insert fills."""

    name: str
    type: str
    """The column's type in PostgreSQL."""
    values: Callable[[Records, Events], list[Any]]
    """Makes the column's values from the records and their events."""
    form: ParameterForm
    usual: int | str | None = None
    """The value of most rows. If all rows of a batch have it, the batch sends no values here."""

    def of(self, records: Records, events: Events) -> list[Any]:
        """Return the column's values; an empty list if every record has the usual value.

        The driver and PostgreSQL inspect each value, so sending none is cheaper. ``unnest`` pads a
        shorter array with nulls, and the statement replaces them by the usual value. ``records``
        must not be empty.
        """
        values = self.values(records, events)
        if values[0] == self.usual and values.count(self.usual) == len(values):
            return []
        return values


_FORMS = {
    "uuid": ParameterForm.LITERAL,
    "timestamptz": ParameterForm.LITERAL,
    "text": ParameterForm.SEPARATED,
}
"""The cheaper forms, by type. An array can hold any type, and nulls."""


def insert_column(column: tables.Column) -> InsertColumn:
    """Return the column that holds a field of the event."""
    form = ParameterForm.ARRAY
    if not column.is_long_or_null and column.write is not tables.or_null:
        form = _FORMS.get(column.type, form)
    # ``string_to_array`` makes no value of one empty text, so the usual value has to be empty.
    usual = "" if form is ParameterForm.SEPARATED else None
    return InsertColumn(column.name, column.type, _values_of(column), form, usual)


def _values_of(column: tables.Column) -> Callable[[Records, Events], list[Any]]:
    field, write = attrgetter(column.field), column.write
    if write is tables.as_it_is:
        return lambda _, events: list(map(field, events))
    if write is tables.or_null:  # mostly UNSET: a call for each value would cost more than the rest
        return lambda _, events: [None if v is UNSET else v for v in map(field, events)]
    return lambda _, events: [write(field(event)) for event in events]


_PARTITION = InsertColumn(
    "partition", "int", lambda records, _: [r.partition for r in records], ParameterForm.LITERAL
)

MESSAGE = (
    *map(insert_column, tables.MESSAGE),
    InsertColumn(
        "fingerprint",
        "text",
        lambda records, events: [
            r.fingerprint or e.fingerprint() for r, e in zip(records, events, strict=True)
        ],
        ParameterForm.SEPARATED,
    ),
    _PARTITION,
    InsertColumn(
        "log_offset",
        "text",
        lambda records, _: [r.offset for r in records],
        ParameterForm.SEPARATED,
        "",
    ),
    InsertColumn(
        "attempts",
        "smallint",
        lambda records, _: [min(r.attempts, _MOST_ATTEMPTS) for r in records],
        ParameterForm.LITERAL,
        1,
    ),
    InsertColumn(
        "trace_id", "text", lambda records, _: [r.trace_id for r in records], ParameterForm.ARRAY
    ),
)
"""The columns of a message. All messages share the log's name, which is its own parameter."""

RECEIPT = tuple(map(insert_column, tables.RECEIPT))

SENT_RECEIPT = (*RECEIPT, _PARTITION)
"""The columns of a receipt, and the partition whose fence it is written under."""


class BatchColumns(msgspec.Struct):
    """The messages of a batch, or its receipts. ``indexes`` are their indexes in the batch."""

    table: Sequence[InsertColumn]
    indexes: list[int]
    values: dict[str, list[Any]]
    """The values by column name, in the order of the statement's parameters.

    A column has no values if every record has its usual value.
    """

    def parameters(self, separator: str) -> list[Any] | None:
        """Return the statement's parameters; ``None`` if a text contains ``separator``."""
        sent = list[Any]()
        for column, values in zip(self.table, self.values.values(), strict=True):
            if column.form is ParameterForm.ARRAY:
                sent.append(values)
            elif column.form is ParameterForm.LITERAL:
                sent.append(of_plain(values))
            else:
                joined = separator.join(values)
                if values and joined.count(separator) != len(values) - 1:
                    return None
                sent.append(joined)
        return sent

    def without(self, partitions: AbstractSet[int]) -> BatchColumns:
        """Return a copy without the records of ``partitions``."""
        kept = [partition not in partitions for partition in self.values["partition"]]
        return BatchColumns(
            self.table,
            list(compress(self.indexes, kept)),
            {name: list(compress(values, kept)) for name, values in self.values.items()},
        )


def parameters(messages: BatchColumns, receipts: BatchColumns) -> list[Any]:
    """Return the statement's parameters: the separator of texts, then both tables' columns."""
    separator = _SEPARATOR
    while True:
        of_messages, of_receipts = messages.parameters(separator), receipts.parameters(separator)
        if of_messages is not None and of_receipts is not None:
            return [separator, *of_messages, *of_receipts]
        separator = uuid4().hex  # no sender can guess it


def columns(batch: Records) -> tuple[BatchColumns, BatchColumns]:
    """Return the messages and the receipts of ``batch``, each in its order.

    Raises:
        Rejected: some record has an id that is no UUID, or a time that is not RFC 3339, or not in
            the years 1 to 9999.
    """
    try:
        return _columns(batch, Message, MESSAGE), _columns(batch, Receipt, SENT_RECEIPT)
    except ValueError as error:
        raise Rejected(
            "an id is not a UUID, or a time is not RFC 3339 with an offset, in the years 1 to 9999 "
            "of UTC"
        ) from error


def _columns(batch: Records, kind: type, table: Sequence[InsertColumn]) -> BatchColumns:
    indexes = [i for i, record in enumerate(batch) if type(record.event) is kind]
    if not indexes:
        return BatchColumns(table, indexes, {column.name: [] for column in table})
    records = [batch[i] for i in indexes]
    events = [record.event for record in records]
    values = {column.name: column.of(records, events) for column in table}
    return BatchColumns(table, indexes, values)
