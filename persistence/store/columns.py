"""A batch as columns: the arrays that ``unnest`` takes.

Mostly each goes as one text, which is cheaper than an array (``persistence.array_literals``).
Values that may be long or null go as an array.
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
    "parameters",
]

_MOST_ATTEMPTS = 32_767  # of a smallint
_SEPARATOR = "\x1f"  # ASCII's "unit separator"; hardly any text has one


Records = Sequence[PositionedEvent]
Events = Sequence[Any]
"""The messages of the records, or their receipts."""


class ParameterForm(Enum):
    """The form in which a statement takes the values of a column."""

    ARRAY = "${number}::{type}[]"
    LITERAL = "${number}::text::{type}[]"
    """Of numbers, ids or times; a literal of any texts costs the server more than an array."""
    SEPARATED = "string_to_array(${number}::text, ${separator})"
    """One text, with a separator between two values."""


class InsertColumn(NamedTuple):
    """A column that the insert fills."""

    name: str
    type: str
    """PostgreSQL's, of the column."""
    values: Callable[[Records, Events], list[Any]]
    """From records and their events to the column's values."""
    form: ParameterForm
    usual: int | str | None = None
    """The value of most rows. A batch in which each has it sends no values of this column."""

    def of(self, records: Records, events: Events) -> list[Any]:
        """Return the column's values, or no value where each record has the usual one.

        The driver looks at each value, and so does PostgreSQL. ``unnest`` pads a shorter array with
        nulls, which the statement replaces by the usual value. There is at least one record.
        """
        values = self.values(records, events)
        if values[0] == self.usual and values.count(self.usual) == len(values):
            return []
        return values


_FORMS = {
    "uuid": ParameterForm.LITERAL,
    "timestamptz": ParameterForm.LITERAL,
    "text": ParameterForm.SEPARATED,
    "text[]": ParameterForm.ARRAY,
    "bigint": ParameterForm.ARRAY,
}
_LONG_OR_NULL = {"content", "payload_key"}


def _of_field(column: tables.Column) -> InsertColumn:
    """Return the column that holds a field of the event."""
    form = ParameterForm.ARRAY if column.name in _LONG_OR_NULL else _FORMS[column.type]
    # An empty text between no separators is no value: it counts as the usual one.
    usual = "" if form is ParameterForm.SEPARATED else None
    return InsertColumn(column.name, column.type, _values_of(column), form, usual)


def _values_of(column: tables.Column) -> Callable[[Records, Events], list[Any]]:
    field, write = attrgetter(column.field), column.write
    if write is tables.as_it_is:
        return lambda _, events: list(map(field, events))
    if write is tables.or_null:  # mostly nothing: a call for each costs more than the rest of it
        return lambda _, events: [None if v is UNSET else v for v in map(field, events)]
    return lambda _, events: [write(field(event)) for event in events]


_PARTITION = InsertColumn(
    "partition", "int", lambda records, _: [r.partition for r in records], ParameterForm.LITERAL
)

MESSAGE = (
    *map(_of_field, tables.MESSAGE),
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
"""The values of each message in a batch; the log's name, which all share, is beside them."""

RECEIPT = tuple(map(_of_field, tables.RECEIPT))

SENT_RECEIPT = (*RECEIPT, _PARTITION)
"""The values of each receipt in a batch: its row, and the partition whose fence it is under."""


class BatchColumns(msgspec.Struct):
    """The messages of a batch, or its receipts; ``indexes`` says where in it each stood."""

    table: Sequence[InsertColumn]
    indexes: list[int]
    values: dict[str, list[Any]]
    """By the name of the column, in the order of the statement's parameters.

    Of a column in which each record has the usual value there are none.
    """

    def parameters(self, separator: str) -> list[Any] | None:
        """Return the statement's parameters; ``None`` where a text has ``separator`` in it."""
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
        """Return the same without the records of ``partitions``."""
        kept = [partition not in partitions for partition in self.values["partition"]]
        return BatchColumns(
            self.table,
            list(compress(self.indexes, kept)),
            {name: list(compress(values, kept)) for name, values in self.values.items()},
        )


def parameters(messages: BatchColumns, receipts: BatchColumns) -> list[Any]:
    """Return the separator of texts, and the columns of both as the statement takes them."""
    separator = _SEPARATOR
    while True:
        of_messages, of_receipts = messages.parameters(separator), receipts.parameters(separator)
        if of_messages is not None and of_receipts is not None:
            return [separator, *of_messages, *of_receipts]
        separator = uuid4().hex  # no sender can know it


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
        return BatchColumns(table, indexes, {column.name: [] for column in table})
    records = [batch[i] for i in indexes]
    events = [record.event for record in records]
    values = {column.name: column.of(records, events) for column in table}
    return BatchColumns(table, indexes, values)
