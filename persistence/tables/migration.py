"""The tables of a migration from one log to another, and of the processes that take part in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from persistence.tables.schema import Table, moment, text_column

__all__ = ["LogEnd", "LogIdentity", "MigrationEventRow", "MigrationRow", "ProcessRow", "RetiredLog"]


def _small(*, null: bool = False) -> Column[int]:
    return Column(SmallInteger, nullable=null)


def _json(*, default: str | None = None) -> Column[Any]:
    return Column(
        JSONB, nullable=default is None, server_default=text(f"'{default}'") if default else None
    )


class MigrationRow(Table, table=True):
    """Where the migration stands: one row, made by the first process that starts.

    The processes are being restarted from ``phase`` to ``target``. The two are equal while no step
    is under way, after every process was seen on that phase. ``epoch`` rises with every change: a
    change decided on an older epoch fails. ``reached_at`` is when ``phase`` was reached.
    ``queued`` is a step that waits for its gates. ``old_log`` and ``new_log`` name the logs of
    phases 0 and 5; the second is null if no migration is planned.
    """

    __tablename__ = "migration"
    __table_args__ = (CheckConstraint("id = 1", name="migration_one_row"),)

    id: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    phase: int = Field(sa_column=_small())
    target: int = Field(sa_column=_small())
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_at: datetime = Field(sa_column=moment(now=True))
    changed_by: str = Field(sa_column=text_column())
    why: str = Field(sa_column=text_column())
    reached_at: datetime = Field(sa_column=moment(now=True))
    queued: dict[str, Any] | None = Field(sa_column=_json())
    old_log: str = Field(sa_column=text_column(server_default="redis"))
    new_log: str | None = Field(sa_column=text_column(null=True, server_default="kafka"))


class MigrationEventRow(Table, table=True):
    """An event of the migration: never changed, never deleted.

    ``kind`` is ``adopted``, ``planned``, ``begun``, ``completed``, ``queued``, ``cancelled``,
    ``expired``, ``forgotten``, ``retired``, ``unmarked`` (settings changed by hand: a log is not
    whole any more) or ``marked`` (both are whole again). The phases are those of ``old_log`` and
    ``new_log``.
    ``gates`` has the gates' results at the time of the decision; ``overrides`` names those that
    were passed without being green, each with the reason given.
    """

    __tablename__ = "migration_events"

    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    at: datetime = Field(sa_column=moment(now=True))
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    kind: str = Field(sa_column=text_column())
    from_phase: int = Field(sa_column=_small())
    to_phase: int = Field(sa_column=_small())
    who: str = Field(sa_column=text_column())
    why: str = Field(sa_column=text_column())
    gates: list[Any] | None = Field(sa_column=_json())
    overrides: dict[str, Any] | None = Field(sa_column=_json())
    old_log: str = Field(sa_column=text_column(server_default="redis"))
    new_log: str | None = Field(sa_column=text_column(null=True, server_default="kafka"))


class ProcessRow(Table, table=True):
    """A running process. It writes its row every two seconds, and removes it when it stops.

    ``member`` is its name in the groups. ``machine`` tells processes whose ids can be compared (the
    same boot, the same process namespace). ``phase`` is written by versions that know one migration
    only; otherwise the settings and the migration's pair tell the phase. ``owned``: its partitions
    by log, each with its epoch. ``paused``: the dependencies that its workers wait for. ``shadow``
    and ``followers``: reports of these parts, null if it has none. ``logs``: the identity of each
    log that it knows by name. ``envelope``: the newest version of an envelope that it reads; null
    is 1.
    ``payload_stores``: the addresses of the stores that it reads, first the one that it writes;
    null if its version does not say. ``throttled``: for each log whose quota it used up in the last
    minute, the seconds of the last wait. ``append_outage``: since when its primary refuses its
    appends, and why; null if it takes them.
    """

    __tablename__ = "processes"

    member: str = Field(sa_column=text_column(primary_key=True))
    role: str = Field(sa_column=text_column())
    host: str = Field(sa_column=text_column())
    machine: str | None = Field(sa_column=text_column(null=True))
    pid: int = Field(sa_column=Column(Integer, nullable=False))
    version: str = Field(sa_column=text_column())
    api_url: str = Field(sa_column=text_column())
    metrics_url: str = Field(sa_column=text_column())
    phase: int | None = Field(sa_column=_small(null=True))
    transport: str = Field(sa_column=text_column())
    transport_shadow: str | None = Field(sa_column=text_column(null=True))
    transport_shadow_mode: str | None = Field(sa_column=text_column(null=True))
    consume_from: str = Field(sa_column=text_column())
    started_at: datetime = Field(sa_column=moment())
    seen_at: datetime = Field(sa_column=moment(now=True))
    owned: dict[str, Any] = Field(sa_column=_json(default="{}"))
    paused: list[Any] = Field(sa_column=_json(default="[]"))
    shadow: dict[str, Any] | None = Field(sa_column=_json())
    followers: dict[str, Any] | None = Field(sa_column=_json())
    figures: dict[str, Any] | None = Field(sa_column=_json())
    logs: dict[str, Any] | None = Field(sa_column=_json())
    envelope: int | None = Field(sa_column=_small(null=True))
    payload_stores: list[str] | None = Field(sa_column=Column(ARRAY(Text), nullable=True))
    throttled: dict[str, Any] | None = Field(sa_column=_json())
    append_outage: dict[str, Any] | None = Field(sa_column=_json())


class LogIdentity(Table, table=True):
    """The log that a name stands for: the first one that any process met under it.

    ``identity`` is the log's own (``Transport.identity``). An operator can remove the row.
    """

    __tablename__ = "log_identities"

    name: str = Field(sa_column=text_column(primary_key=True))
    identity: str = Field(sa_column=text_column())
    first_seen: datetime = Field(sa_column=moment(now=True))


class LogEnd(Table, table=True):
    """The last record of a partition that any process has heard of, by the log's identity.

    ``at`` is the record's offset; ``sort_key`` is for comparing it.
    """

    __tablename__ = "log_ends"

    identity: str = Field(sa_column=text_column(primary_key=True))
    partition: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    sort_key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    at: str = Field(sa_column=text_column())


class RetiredLog(Table, table=True):
    """A log that was retired: no process accepts messages into it, and its name is not used again.

    ``who``, ``why`` and ``at`` come from the first ``crossfade migrate retire``.
    """

    __tablename__ = "retired_logs"

    name: str = Field(sa_column=text_column(primary_key=True))
    who: str = Field(sa_column=text_column())
    why: str = Field(sa_column=text_column())
    at: datetime = Field(sa_column=moment(now=True))
