"""The table of findings of comparisons of two logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Float, Index, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["ParityReportRow"]


def _json() -> Column[Any]:
    return Column(JSONB, nullable=False)


class ParityReportRow(Table, table=True):
    """Findings on the messages that were judged between ``since`` and ``until``.

    ``kind`` is ``running`` (one row a minute, by the process that is elected to compare) or
    ``check`` (on request). ``counts`` are by result. Those of a running report are the changes
    since the row before, so that rows add up; a repair takes back what an earlier row counted.
    ``lag`` is by partition, at ``until``. ``compared`` and ``coverage`` (null: there was nothing)
    say how many messages the verdict rests on. ``since`` is null for whole logs.
    """

    __tablename__ = "parity_reports"
    __table_args__ = (Index(None, "primary_log", "shadow_log", "until"),)

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kind: str = Field(sa_column=text_column())
    primary_log: str = Field(sa_column=text_column())
    shadow_log: str = Field(sa_column=text_column())
    since: datetime | None = Field(sa_column=moment(null=True))
    until: datetime = Field(sa_column=moment())
    counts: dict[str, Any] = Field(sa_column=_json())
    lag: list[Any] = Field(sa_column=_json())
    samples: list[Any] = Field(sa_column=_json())
    verdict: str = Field(sa_column=text_column())
    compared: int = Field(sa_column=Column(BigInteger, nullable=False))
    coverage: float | None = Field(sa_column=Column(Float, nullable=True))
    made_by: str = Field(sa_column=text_column())
    made_at: datetime = Field(sa_column=moment(now=True))
