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
    Column("through", text_column().type, nullable=False),
    Column("log", text_column().type, nullable=False),
)
"""Up to ``through``, every record of the partition is a row or a dead letter.

It is committed with the rows, so a failover or a restore that takes rows back takes it back too. It
is empty before the first record. Partition -1 stands for the dead letters. ``log`` is the identity
of the log that ``through`` is an offset of: an address may lead to another log than before.

The row is its partition's fence: an insert updates the row if it has the insert's ``epoch``, and a
new owner raises the epoch.

The table has no index, so it is no model: see the migration that makes it. In a publication, a row
is identified by all its columns (``REPLICA IDENTITY FULL``).
"""
