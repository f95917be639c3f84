"""The table of the chain: the order in which the logs are read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, SmallInteger
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from persistence.tables.schema import Table

__all__ = ["ChainRow"]


class ChainRow(Table, table=True):
    """The chain (``persistence.chain.links.Chain``): one row, made by the first reader of a log.

    ``version`` rises with each change, and no two changes have the same, even if PostgreSQL went
    back in between. A statement that inserts rows of a log compares it.
    """

    __tablename__ = "log_chain"
    __table_args__ = (CheckConstraint("id = 1", name="log_chain_one_row"),)

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    links: list[Any] = Field(sa_column=Column(JSONB, nullable=False))
    both_whole: bool = Field(sa_column=Column(Boolean, nullable=False))
