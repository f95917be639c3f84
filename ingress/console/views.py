"""The answers of the console's routes. ``None`` means unknown, never zero."""

from __future__ import annotations

from typing import Any, Literal

from ingress.routes.dead_letter_models import RecordHeader
from ingress.routes.models import MessageView
from ingress.schema.responses import State
from ingress.schema.structs import ApiStruct
from otel.losses import Loss
from persistence.database.outage import Paused
from persistence.json_types import Small, Time
from persistence.reads.messages import StoredPosition
from persistence.reads.overview import Letters
from persistence.store.row_losses import RowLoss

__all__ = [
    "Database",
    "FoundMessage",
    "FoundMessages",
    "FoundPage",
    "HistoryPoint",
    "Hour",
    "HourPoint",
    "Latency",
    "LogNames",
    "LogRecord",
    "LogRecords",
    "LogView",
    "Matched",
    "MigrationBrief",
    "NamedLog",
    "Part",
    "PartitionView",
    "ProcessView",
    "Sentence",
    "Status",
    "Step",
    "Timeline",
]

Part = Literal["primary", "consumed", "shadow"]
Matched = Literal[
    "message id",
    "beginning of the message id",
    "client message id",
    "correlation id",
    "conversation",
    "sender",
    "log position",
    "dead letter",
    "time",
]


class PartitionView(ApiStruct, frozen=True):
    """One partition of one log. Ages are in seconds; rates are per second, of the last seconds."""

    partition: int
    lag: int | None
    oldest_age: float | None
    """The age of the oldest record without a row."""
    in_rate: float | None
    out_rate: float | None
    owner: str | None
    lost: int
    """The number of records that left the log unread."""
    stalled_seconds: float | None
    """Seconds that records have waited while the position did not move; 0 if none waits."""


class LogView(ApiStruct, frozen=True):
    """One log. If it does not answer, ``error`` says why, and its partitions are unknown."""

    name: str
    roles: list[Part]
    error: str | None
    lag: int | None
    in_rate: float | None
    out_rate: float | None
    dead_letters_unread: int | None
    """The number of dead letters in the log that are not in the table yet."""
    partitions: list[PartitionView]
    loss: Loss | None = None
    """The records that left the log unread, if there are any."""
    rescued: int = 0
    """The number of records that failovers lost in the last day and that were appended again."""
    altered: tuple[str, ...] = ()
    """The settings of this log that somebody altered on its server."""
    primaries: tuple[str, ...] = ()
    """Warnings of the log's primary: there are two, or the sentinels do not confirm it."""


class ProcessView(ApiStruct, frozen=True):
    """One process, as its last heartbeat reported ``silent_seconds`` ago."""

    member: str
    role: str
    host: str
    pid: int
    version: str
    phase: int | None
    settings: str
    owned: dict[str, list[int]]
    paused: list[Paused]
    started_at: Time
    silent_seconds: float
    live: bool
    shadow: dict[str, Any] | None
    followers: dict[str, Any] | None


class Latency(ApiStruct, frozen=True):
    """A latency of the last ten seconds, over all processes, in seconds (upper bounds)."""

    per_second: float
    p50: float | None
    p99: float | None


class Database(ApiStruct, frozen=True):
    """The state of PostgreSQL, and why it does not answer, or takes no rows."""

    up: bool
    error: str | None
    remedy: str | None = None
    """What to do where it answers and takes no rows."""
    archive_waits: float = 0.0
    """Seconds since an archive file was begun that is not finished; 0 if there is none."""
    row_losses: tuple[RowLoss, ...] = ()
    """The rows of acknowledged messages that it lost, by log."""


class MigrationBrief(ApiStruct, frozen=True):
    """The state of the migration."""

    phase: int
    target: int
    epoch: int
    changed_at: Time
    changed_by: str
    why: str


class Sentence(ApiStruct, frozen=True):
    """One finding: a fact, its cause, and the remedy."""

    level: Literal["ok", "notice", "warning", "alarm"]
    text: str
    next: str | None = None
    page: Literal["partitions", "dead-letters", "migration"] | None = None


class HistoryPoint(ApiStruct, frozen=True):
    """Sums at one time: the rate into the primary log, and the rate and lag of the consumed log."""

    at: Time
    in_rate: float | None
    out_rate: float | None
    lag: int | None
    oldest: float | None


class Status(ApiStruct, frozen=True):
    """The state of all parts, as one process sees it at ``at``."""

    at: Time
    seen_by: str
    logs: list[LogView]
    database: Database
    processes: list[ProcessView] | None
    ack: Latency | None
    """From handing a message in to its acknowledgement."""
    persist: Latency | None
    """From acceptance to the committed row."""
    dead_letters: Letters | None
    migration: MigrationBrief | None
    health: list[Sentence]
    history: list[HistoryPoint]
    """The last minutes, as far as this process has sampled them; empty in the event stream."""


class Step(ApiStruct, frozen=True):
    """One step of a message's timeline. ``since`` is the time when the step began."""

    kind: Literal[
        "accepted",
        "appended",
        "attempt",
        "persisted",
        "dead_lettered",
        "redriven",
        "discarded",
        "receipt",
        "pending",
        "archived",
        "erased",
    ]
    title: str
    at: str | None
    since: str | None = None
    log: str | None = None
    partition: int | None = None
    offset: str | None = None
    detail: str | None = None
    failed: bool = False
    dead_letter_id: int | None = None


class Timeline(ApiStruct, frozen=True):
    """A message with its steps, oldest first. ``incomplete`` names sources that did not answer."""

    message: MessageView
    steps: list[Step]
    incomplete: str | None = None


class FoundMessage(ApiStruct, frozen=True):
    """A found message, with the fields that matched.

    ``message_id`` is null for a dead letter or a record that is not a message.
    """

    message_id: str | None
    matched: list[Matched]
    state: State
    conversation_id: str | None = None
    sender_id: str | None = None
    client_message_id: str | None = None
    correlation_id: str | None = None
    accepted_at: Time | None = None
    dead_letter_id: int | None = None
    """The number of the dead letter, if it was found by that."""
    position: StoredPosition | None = None
    """The position in the log, if it was found by that."""


class FoundMessages(ApiStruct, frozen=True):
    """The found messages, latest first. ``incomplete`` names sources that did not answer."""

    items: list[FoundMessage]
    more: bool
    note: str | None = None
    """Remarks on a place in a log."""
    incomplete: str | None = None


class FoundPage(ApiStruct, frozen=True):
    """A page of a listing, newest first. The first page begins with messages without a row.

    A page that has fewer messages than asked for may have a next page. Then ``looked_back_to`` is
    the time back to which this page has searched.
    """

    items: list[FoundMessage]
    next: str | None
    looked_back_to: Time | None = None
    incomplete: str | None = None


class NamedLog(ApiStruct, frozen=True):
    """A log, its roles, and its number of partitions."""

    name: str
    roles: list[Part]
    partitions: Small


class LogNames(ApiStruct, frozen=True):
    """The logs that this process can read."""

    items: list[NamedLog]


class LogRecord(ApiStruct, frozen=True):
    """A record of a log. Long values are cut."""

    offset: str
    place: str
    """The position as text, in the form that the search understands."""
    appended_at: float
    """The time of append by the log's clock, in seconds since the epoch."""
    key: str
    size: int
    """The bytes of the key, the body and the headers' values."""
    headers: list[RecordHeader]
    more_headers: Small
    body_base64: str
    body_size: int
    kind: Literal["message", "receipt", "unreadable"]
    error: str | None = None
    """Why the record can't be decoded."""
    message_id: str | None = None
    conversation_id: str | None = None
    sender_id: str | None = None


class LogRecords(ApiStruct, frozen=True):
    """A page of records, in log order."""

    log: str
    topic: Literal["messages", "dead_letters"]
    partition: Small
    items: list[LogRecord]
    first: str | None
    """The offset to go on from, backwards; null if the page is empty."""
    last: str | None
    at_beginning: bool
    """Whether no record is before the page; false if this was not checked."""
    at_end: bool
    """Whether no record is after the page by now."""


class HourPoint(ApiStruct, frozen=True):
    """A point of the last hour. Rates are per second, over the last seconds; p99 are in seconds."""

    at: Time
    accepted: float | None
    persisted: float | None
    waiting: int | None
    dead_letters: int | None
    answered_p99: float | None
    """From handing a message in to its acknowledgement; null if there was none."""
    written_p99: float | None
    """From acceptance to the committed row."""


class Hour(ApiStruct, frozen=True):
    """The last hour, as far as this process has sampled it, oldest first."""

    seen_by: str
    step_seconds: float
    points: list[HourPoint]
    grafana_url: str | None
    """The dashboards' URL, from `INGRESS_GRAFANA_URL`."""
