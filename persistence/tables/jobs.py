"""The table of long jobs: redrives, backfills and repairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, Integer, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["JobRow"]


def _count() -> Column[int]:
    return Column(BigInteger, nullable=False, server_default=text("0"))


def _object() -> Column[Any]:
    return Column(JSONB, nullable=False, server_default=text("'{}'"))


class JobRow(Table, table=True):
    """One long job, so that any process can watch it, cancel it, or resume it.

    ``kind`` is a ``persistence.tables.states.JobKind``, ``state`` a ``JobState``. ``request`` has
    the fields that its kind defines. ``cursor`` says where to resume it. ``total``, ``done`` and
    ``failed`` count letters, records or findings; ``counts`` has further counts of the kind.
    ``owner`` names the run that works on it, and is null while none does; ``seen_at`` is when a run
    last reported.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "kind", "started_at"),)

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kind: str = Field(sa_column=text_column())
    state: str = Field(sa_column=text_column())
    request: dict[str, Any] = Field(sa_column=_object())
    rate: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    cursor: dict[str, Any] = Field(sa_column=_object())
    total: int = Field(sa_column=_count())
    done: int = Field(sa_column=_count())
    failed: int = Field(sa_column=_count())
    counts: dict[str, Any] = Field(sa_column=_object())
    error: str | None = Field(sa_column=text_column(null=True))
    owner: str | None = Field(sa_column=text_column(null=True))
    started_by: str = Field(sa_column=text_column())
    started_at: datetime = Field(sa_column=moment(now=True))
    seen_at: datetime = Field(sa_column=moment(now=True))
    finished_at: datetime | None = Field(sa_column=moment(null=True))
