"""The tables of rows that are gone: tombstones, files of archived rows, pages that they left."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index, Uuid
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["FreedPages", "RowArchive", "Tombstone"]


class Tombstone(Table, table=True):
    """A message without a row: it was archived, or erased. Its id never becomes a row again.

    ``archive`` names the file of an archived message. An erased message has ``erased_at``, and
    neither ``fingerprint`` nor ``correlation_id``: nothing of it can be guessed from here. The
    correlation id of an archived message is null if it is the message's id.
    """

    __tablename__ = "tombstones"
    __table_args__ = (
        # Rows of one archive stand together, so an entry for each megabyte is enough.
        Index(None, "archive", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    accepted_at: datetime = Field(sa_column=moment())
    archive: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    erased_at: datetime | None = Field(sa_column=moment(null=True))
    fingerprint: str | None = Field(sa_column=text_column(null=True))
    correlation_id: str | None = Field(sa_column=text_column(null=True))


class RowArchive(Table, table=True):
    """A file of archived rows, and its state.

    ``state`` is ``planned`` (its tombstones stand, the rows too), ``written`` (the file was read
    back and is right) or ``done`` (the rows are deleted). ``first_at`` and ``last_at`` are the
    ``created_at`` of its first and its last row.
    """

    __tablename__ = "row_archives"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    name: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    sha256: str | None = Field(sa_column=text_column(null=True))
    first_at: datetime = Field(sa_column=moment())
    last_at: datetime = Field(sa_column=moment())
    planned_at: datetime = Field(sa_column=moment(now=True))
    done_at: datetime | None = Field(sa_column=moment(null=True))


class FreedPages(Table, table=True):
    """Pages of ``messages`` from which one transaction deleted rows.

    The row is deleted once the indexes' summaries of these pages are renewed.
    """

    __tablename__ = "freed_pages"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    blocks: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
