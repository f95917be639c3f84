"""The table of sequence marks: how far rows were numbered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column
from sqlmodel import Field

from persistence.tables.schema import Table, text_column

__all__ = ["SequenceMark"]


class SequenceMark(Table, table=True):
    """A number that the sequence of a table has reached.

    ``name`` is the table's. The sequence is further by about a hundredth at most, so that few marks
    are written. ``persistence.sequences`` writes and uses it.
    """

    __tablename__ = "sequence_marks"

    name: str = Field(sa_column=text_column(primary_key=True))
    reached: int = Field(sa_column=Column(BigInteger, nullable=False))
