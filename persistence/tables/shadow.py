"""The table of messages that a shadow log was not given."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Column, Identity, Integer
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["ShadowGap"]


class ShadowGap(Table, table=True):
    """Messages of one partition that ``transport`` has and ``shadow`` was not given.

    ``records`` of them, of one kind (``transport.shadow.outcomes.Drop``), stand from
    ``first_offset`` to ``last_offset`` in ``transport``; others between them may have been copied.
    The offsets are null where they are unknown, or the messages may not stand there at all.
    ``noted_by`` is the process. A finished repair of the shadow sets ``repaired_at``.
    """

    __tablename__ = "shadow_gaps"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    transport: str = Field(sa_column=text_column())
    shadow: str = Field(sa_column=text_column())
    partition: int = Field(sa_column=Column(Integer, nullable=False))
    kind: str = Field(sa_column=text_column())
    first_offset: str | None = Field(sa_column=text_column(null=True))
    last_offset: str | None = Field(sa_column=text_column(null=True))
    records: int = Field(sa_column=Column(BigInteger, nullable=False))
    noted_by: str = Field(sa_column=text_column())
    noted_at: datetime = Field(sa_column=moment(now=True))
    repaired_at: datetime | None = Field(sa_column=moment(null=True))
