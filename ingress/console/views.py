"""The console's views, as they go over the wire. ``None`` is *unknown*, never zero."""

from __future__ import annotations

from typing import Any, Literal

from ingress.routes.dead_letter_models import RecordHeader
from ingress.routes.models import MessageView
from ingress.schema.responses import State
from ingress.schema.structs import ApiStruct
from persistence.database.outage import Paused
from persistence.json_types import Small, Time
from persistence.reads.messages import StoredPosition
from persistence.reads.overview import Letters

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
    """One partition of one log. Ages are seconds, rates records a second of the last seconds."""

    partition: int
    lag: int | None
    pending: int | None
    oldest_age: float | None
    """The age of the oldest record that is not acknowledged: how long a record waits now."""
    in_rate: float | None
    out_rate: float | None
    owner: str | None
    lost: int
    """Records that left the log unread."""
    stalled_seconds: float | None
    """For how long records have waited without one being acknowledged; 0 where none wait."""


class LogView(ApiStruct, frozen=True):
    """One log. ``error`` says why it can't be asked; its partitions are then unknown."""

    name: str
    roles: list[Part]
    error: str | None
    lag: int | None
    in_rate: float | None
    out_rate: float | None
    dead_letters_unread: int | None
    """Dead letters in the log that are not in the table yet."""
    partitions: list[PartitionView]
    rescued: int = 0
    """Records that a failover of the last day lost, and that were appended again."""


class ProcessView(ApiStruct, frozen=True):
    """One process, in its own words of ``silent_seconds`` ago."""

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
    standby: dict[str, Any] | None


class Latency(ApiStruct, frozen=True):
    """Of the last ten seconds, over every process: upper bounds, in seconds."""

    per_second: float
    p50: float | None
    p99: float | None


class Database(ApiStruct, frozen=True):
    """State of PostgreSQL, and its error if it does not answer."""

    up: bool
    error: str | None
    archive_waits: float = 0.0
    """How many seconds ago a file of old rows was begun that is not finished."""


class MigrationBrief(ApiStruct, frozen=True):
    """Where the migration stands."""

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
    """A moment's sums: into the primary log, out of the one that is read, and what waits there."""

    at: Time
    in_rate: float | None
    out_rate: float | None
    lag: int | None
    oldest: float | None


class Status(ApiStruct, frozen=True):
    """Everything at once, as one process sees it at ``at``."""

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
    """The last minutes as far as this process has them; empty in the stream of events."""


class Step(ApiStruct, frozen=True):
    """One thing that happened to a message. ``since`` is when what it took began."""

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
    """A message's whole story, oldest first. ``incomplete`` says what could not be asked."""

    message: MessageView
    steps: list[Step]
    incomplete: str | None = None


class FoundMessage(ApiStruct, frozen=True):
    """A message found, and the fields that matched.

    ``message_id`` is null of a dead letter, or of a record, that is no message.
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
    """Its dead letter, where it was found by that."""
    position: StoredPosition | None = None
    """Where it stands, where it was found by that."""


class FoundMessages(ApiStruct, frozen=True):
    """Messages found, latest first. ``incomplete`` names sources that did not answer."""

    items: list[FoundMessage]
    more: bool
    note: str | None = None
    """Remarks on a place in a log."""
    incomplete: str | None = None


class FoundPage(ApiStruct, frozen=True):
    """A page of a listing, newest first; the first begins with messages that are not rows yet.

    A page with fewer than were asked for may have a next one: then ``looked_back_to`` says how far
    back in time this one has looked.
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
    """The logs that this process can look into."""

    items: list[NamedLog]


class LogRecord(ApiStruct, frozen=True):
    """A record as it stands in a log. Of long values, the beginning is given."""

    offset: str
    place: str
    """Where it stands, as the search takes it."""
    appended_at: float
    """By the log's clock, in seconds since the epoch."""
    key: str
    size: int
    """Bytes of its key, its body and its headers' values."""
    headers: list[RecordHeader]
    more_headers: Small
    body_base64: str
    body_size: int
    kind: Literal["message", "receipt", "unreadable"]
    error: str | None = None
    """Why it can't be read as one of ours."""
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
    """The offset to go on from, backwards; null of an empty page."""
    last: str | None
    at_beginning: bool
    """Whether nothing is before it; false where that was not looked for."""
    at_end: bool
    """Whether nothing is behind it by now."""


class HourPoint(ApiStruct, frozen=True):
    """A moment of the last hour: rates are a second's, of the seconds before; p99 are seconds."""

    at: Time
    accepted: float | None
    persisted: float | None
    waiting: int | None
    dead_letters: int | None
    answered_p99: float | None
    """From handing a message in to its acknowledgement; null where there was none."""
    written_p99: float | None
    """From acceptance to the committed row."""


class Hour(ApiStruct, frozen=True):
    """The last hour as far as this process has it, oldest first."""

    seen_by: str
    step_seconds: float
    points: list[HourPoint]
    grafana_url: str | None
    """Where more can be seen, if `INGRESS_GRAFANA_URL` says so."""
