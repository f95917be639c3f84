"""The table of positions: how far each partition of each log is settled."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table

from persistence.tables.schema import metadata, text_column

__all__ = ["log_positions"]

log_positions = Table(
    "log_positions",
    metadata,
    Column("transport", text_column().type, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("through", text_column().type, nullable=True),
)
"""Up to ``through`` every record of the partition is a row or a dead letter.

Committed with the rows, so a failover or a restore that takes rows takes it back too. It is empty
before the first record, and ``None`` where it is not known. A partition of -1 is that of the dead
letters.

The row is the fence of its partition: an insert updates it if it has the owner's ``epoch``, and a
new owner raises that.

It has no index, so it is no model: see the migration that makes it.
"""
