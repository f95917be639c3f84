"""Parts of every table model: the metadata, the base class, and two kinds of column.

The models are in ``persistence.tables.models`` and the modules it gathers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Text, text
from sqlmodel import SQLModel

__all__ = ["Table", "metadata", "moment", "text_column"]

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)


class Table(SQLModel):
    """Keeps our tables out of SQLModel's process-wide metadata."""

    metadata = metadata


def text_column(*, null: bool = False, **options: Any) -> Column[str]:
    """Return a new column of text."""
    return Column(Text, nullable=null, **options)


def moment(*, null: bool = False, now: bool = False) -> Column[datetime]:
    """Return a new column of times; with ``now``, the time of the insert is its default."""
    default = text("now()") if now else None
    return Column(DateTime(timezone=True), nullable=null, server_default=default)
