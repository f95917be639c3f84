"""The tables. Migrations are written from these, and a test compares the two.

Rows are written by ``persistence.store.writer`` and read by ``persistence.reads.messages``, both in
SQL: the ORM costs ten times as much per row. The models are the schema's one description.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from persistence.tables.chain import ChainRow
from persistence.tables.jobs import JobRow
from persistence.tables.migration import (
    LogEnd,
    LogIdentity,
    MigrationEventRow,
    MigrationRow,
    ProcessRow,
    RetiredLog,
)
from persistence.tables.operator import DeliveryAttempt, OperatorAction
from persistence.tables.parity import ParityReportRow
from persistence.tables.positions import log_positions
from persistence.tables.schema import Table as _Table
from persistence.tables.schema import metadata
from persistence.tables.schema import moment as _moment
from persistence.tables.schema import text_column as _text
from persistence.tables.sequences import SequenceMark
from persistence.tables.shadow import ShadowGap
from persistence.tables.tombstones import FreedPages, RowArchive, Tombstone

__all__ = [
    "ChainRow",
    "DeadLetterRow",
    "DeliveryAttempt",
    "FenceRow",
    "FreedPages",
    "JobRow",
    "LogEnd",
    "LogIdentity",
    "MessagePosition",
    "MessageReceipt",
    "MessageRow",
    "MigrationEventRow",
    "MigrationRow",
    "OperatorAction",
    "ParityReportRow",
    "ProcessRow",
    "RetiredLog",
    "RowArchive",
    "SequenceMark",
    "ShadowGap",
    "Tombstone",
    "log_positions",
    "metadata",
]


def _bloom(column: str) -> Index:
    """Return an index that says which ranges of 8 pages of ``messages`` may hold a text."""
    return Index(
        f"messages_{column}_bloom_idx",
        column,
        postgresql_using="brin",
        postgresql_ops={column: "text_bloom_ops"},
        postgresql_with={"pages_per_range": 8},
    )


class MessageRow(_Table, table=True):
    """One message. Its unique ``idempotency_key`` makes it one row (promise 2).

    ``seq`` is the reading order: assigned by the insert in log order (promise 3). ``transport``,
    ``partition`` and ``log_offset`` say where the row came from (``direct`` has no offset).

    If ``payload_key`` is set, the content is in the payload store. ``content`` has it too if it is
    text of up to ``PAYLOAD_ROW_BYTES``; otherwise it is empty.
    """

    __tablename__ = "messages"
    __table_args__ = (
        Index(None, "conversation_id", "seq"),
        # For people who look for a message: a Bloom filter for each 8 pages of rows. An insert into
        # new pages touches none; one into freed pages writes 0.3 kB of each to the WAL. A B-tree or
        # a hash has each row on another page, which goes to the WAL whole.
        _bloom("client_message_id"),
        _bloom("correlation_id"),
        # For people who look for messages that were persisted recently. Rows come in the order of
        # their times, so an entry for each megabyte of them is enough.
        Index(None, "created_at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    )

    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    idempotency_key: str = Field(sa_column=_text(unique=True))
    correlation_id: str = Field(sa_column=_text())
    conversation_id: str = Field(sa_column=_text())
    sender_id: str = Field(sa_column=_text())
    client_message_id: str = Field(sa_column=_text())
    recipient_ids: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    content: str = Field(sa_column=_text())
    content_type: str = Field(sa_column=_text())
    fingerprint: str = Field(sa_column=_text())
    accepted_at: datetime = Field(sa_column=_moment())
    created_at: datetime = Field(sa_column=_moment(now=True))
    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    transport: str = Field(sa_column=_text())
    partition: int = Field(sa_column=Column(Integer, nullable=False))
    log_offset: str = Field(sa_column=_text())
    attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=text("1")))
    trace_id: str | None = Field(sa_column=_text(null=True))
    payload_key: str | None = Field(sa_column=_text(null=True))
    payload_bytes: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class MessageReceipt(_Table, table=True):
    """A receipt: a user got or saw a message. The key allows one per message, user and state."""

    __tablename__ = "message_receipts"

    message_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    )
    user_id: str = Field(sa_column=_text(primary_key=True))
    state: str = Field(sa_column=_text(primary_key=True))
    at: datetime = Field(sa_column=_moment())
    correlation_id: str = Field(sa_column=_text())
    created_at: datetime = Field(sa_column=_moment(now=True))


class MessagePosition(_Table, table=True):
    """Where a message stands in a log that its row, or its dead letter, did not come from.

    It is the message's first position there; after a redrive, the last.

    Written by the follower of that log, for people and samples: no decision depends on it, and it
    is not flushed at once. ``appended_at`` is the log's own clock.
    """

    __tablename__ = "message_positions"

    message_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    transport: str = Field(sa_column=_text(primary_key=True))
    partition: int = Field(sa_column=Column(Integer, nullable=False))
    log_offset: str = Field(sa_column=_text())
    appended_at: datetime = Field(sa_column=_moment())


class FenceRow(_Table, table=True):
    """The newest owner of each partition of each log: one row for each, whose epoch only rises.

    An owner that takes a partition takes its position too (``persistence.tables.positions``), and
    inserts check the position. This table changes only with owners, so it can have a unique key,
    and logs are looked up here. An epoch of -1 is no owner's: it says that a process writes the log
    (``persistence.fleet.used_logs``).
    """

    __tablename__ = "fences"

    transport: str = Field(sa_column=_text(primary_key=True))
    partition: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    owner: str = Field(sa_column=_text())
    taken_at: datetime = Field(sa_column=_moment(now=True))


class DeadLetterRow(_Table, table=True):
    """A record that could not be persisted, its bytes intact, and its outcome.

    ``identity`` is a digest of where the record stood and of its bytes: however often the letter is
    delivered or appended, it is one row. ``kind`` is ``message``, ``receipt`` or ``unknown``.
    ``state`` is ``pending``, ``redriven`` or ``discarded``; ``settled_*`` say when, by whom and why
    (``resolved_*`` in the code, where a record is *settled*, and a letter *resolved*). ``redrives``
    counts how often the record had been redriven when it failed. ``cause`` is the error's text
    without what differs from letter to letter, null until it is computed.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (
        Index(None, "state", "id"),
        Index(None, "conversation_id", "id"),
        Index(
            "dead_letters_pending_cause_idx",
            "reason",
            "cause",
            "id",
            postgresql_where=text("state = 'pending'"),
            postgresql_include=["failed_at", "redrives"],
        ),
        Index(
            "dead_letters_pending_reason_idx",
            "reason",
            "id",
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "dead_letters_without_cause_idx",
            "id",
            postgresql_where=text("state = 'pending' AND cause IS NULL"),
        ),
    )

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    identity: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    transport: str = Field(sa_column=_text())
    log_offset: str = Field(sa_column=_text())
    source_topic: str = Field(sa_column=_text())
    source_partition: int = Field(sa_column=Column(Integer, nullable=False))
    source_offset: str = Field(sa_column=_text())
    message_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True, index=True))
    conversation_id: str | None = Field(sa_column=_text(null=True))
    kind: str = Field(sa_column=_text())
    record_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    header_names: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    header_values: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    reason: str = Field(sa_column=_text())
    error: str = Field(sa_column=_text())
    attempts: int = Field(sa_column=Column(Integer, nullable=False))
    redrives: int = Field(sa_column=Column(Integer, nullable=False))
    failed_at: datetime = Field(sa_column=_moment())
    recorded_at: datetime = Field(sa_column=_moment(now=True))
    state: str = Field(sa_column=_text(server_default=text("'pending'")))
    settled_at: datetime | None = Field(sa_column=_moment(null=True))
    settled_by: str | None = Field(sa_column=_text(null=True))
    settled_why: str | None = Field(sa_column=_text(null=True))
    cause: str | None = Field(sa_column=_text(null=True))
