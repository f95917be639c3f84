"""The tables an operator reads: operators' actions, and failed attempts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Integer, SmallInteger, Uuid
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["DeliveryAttempt", "OperatorAction"]


class OperatorAction(Table, table=True):
    """An operator's action: caller, time, action, target, reason and result.

    Written before the action, so one whose process died is here too, without a ``result``.
    """

    __tablename__ = "operator_actions"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    at: datetime = Field(sa_column=moment(now=True))
    who: str = Field(sa_column=text_column())
    action: str = Field(sa_column=text_column())
    target: str = Field(sa_column=text_column())
    why: str = Field(sa_column=text_column())
    result: str | None = Field(sa_column=text_column(null=True))
    finished_at: datetime | None = Field(sa_column=moment(null=True))


class DeliveryAttempt(Table, table=True):
    """An attempt to persist one record, alone, that PostgreSQL refused.

    A record that succeeds at once has no row here: its attempt is the row that it became.
    """

    __tablename__ = "delivery_attempts"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    message_id: UUID = Field(sa_column=Column(Uuid, nullable=False, index=True))
    kind: str = Field(sa_column=text_column())
    transport: str = Field(sa_column=text_column())
    partition: int = Field(sa_column=Column(Integer, nullable=False))
    log_offset: str = Field(sa_column=text_column())
    attempt: int = Field(sa_column=Column(SmallInteger, nullable=False))
    failed_at: datetime = Field(sa_column=moment())
    error: str = Field(sa_column=text_column())
    worker: str = Field(sa_column=text_column())
