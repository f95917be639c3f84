"""The transport: appends, reads, and questions."""

from __future__ import annotations

import sqlite3
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic_settings import BaseSettings, SettingsConfigDict

from crossfade.transport import (
    DLQ_GROUP,
    WORKER_GROUP,
    Appended,
    AppendUnknown,
    ConfigurationError,
    DeadLetter,
    Durability,
    Envelope,
    Features,
    GroupStanding,
    Holding,
    LogLocation,
    LogName,
    Outcome,
    Progress,
    Record,
    Remembered,
    Topic,
    TransportSettings,
    TransportUnavailable,
    dead_letter_headers,
    offset_number,
    offset_sort_key,
)
from tests.sqlite_log.database import CommitFailed, Database
from tests.sqlite_log.records import append, select

__all__ = ["SqliteTransport"]

_PROGRESS = (
    "SELECT coalesce(p.next, 0), (SELECT coalesce(max(offset) + 1, 0) FROM records"
    "  WHERE topic = ?1 AND partition = ?3),"
    " (SELECT appended_at FROM records WHERE topic = ?1 AND partition = ?3"
    "  AND offset = coalesce(p.next, 0))"
    " FROM (SELECT 1) LEFT JOIN positions p ON p.topic = ?1 AND p.name = ?2 AND p.partition = ?3"
)

# No further than the end, so that the lag is never below zero.
_SHOW = (
    "INSERT INTO positions SELECT ?1, ?2, ?3,"
    " min(?4 + 1, coalesce(max(offset) + 1, 0)) FROM records WHERE topic = ?1 AND partition = ?3"
    " ON CONFLICT DO UPDATE SET next = excluded.next"
)

_GROUPS = (
    "SELECT topic, name, (SELECT count(*) FROM records WHERE records.topic = positions.topic)"
    "  - sum(next) FROM positions GROUP BY topic, name ORDER BY topic, name"
)
_OURS = {(Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)}


class _OwnSettings(BaseSettings):
    """Settings of this log alone, from the environment and ``.env``, as Crossfade reads its own."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    sqlite_log: str | None = None
    """The file of the log."""


class SqliteTransport:
    """See ``crossfade.transport.Transport``."""

    contract = "1.0"
    system = "sqlite"
    features = Features(remembers=False, durable=True, shared=True)

    def __init__(self, path: Path, settings: TransportSettings, name: LogName) -> None:
        self.name = str(name)
        self.partitions = settings.stream_partitions
        self.location = LogLocation(str(path), numbered=True)
        self._db = Database(path, self.partitions)

    @classmethod
    def from_settings(cls, settings: TransportSettings, name: LogName) -> Self:
        """Return a transport on the file that ``SQLITE_LOG`` names."""
        file = _OwnSettings().sqlite_log
        if not file:
            raise ConfigurationError(f"{name} needs a file: set SQLITE_LOG to its path")
        return cls(Path(file + name.suffix("@")), settings, name)

    async def __aenter__(self) -> Self:
        await self._db.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._db.close()

    async def publish(
        self,
        envelopes: Sequence[Envelope],
        *,
        remember: bool = True,
    ) -> Sequence[Outcome]:
        """Append envelopes; see the contract."""

        def work(db: sqlite3.Connection) -> list[Outcome]:
            return [
                Appended(append(db, Topic.MESSAGES, e.partition, e.key, e.body, _bytes(e)))
                for e in envelopes
            ]

        try:
            outcomes: Sequence[Outcome] = await self._db.run(work)
        except CommitFailed as error:
            outcomes = [AppendUnknown(str(error))] * len(envelopes)
        except TransportUnavailable as error:
            outcomes = [error] * len(envelopes)
        self._db.ring()
        return outcomes

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Return nothing: it does not remember."""
        return [None] * len(message_ids)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Append dead letters; see the contract."""

        def work(db: sqlite3.Connection) -> None:
            for letter in letters:
                record, headers = letter.record, dead_letter_headers(letter)
                append(db, Topic.DEAD_LETTERS, 0, record.key, record.body, headers)

        await self._db.run(work)
        self._db.ring()

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """Return records after an offset; see the contract."""
        first = 0 if after is None else min(offset_number(after) + 1, 2**63 - 1)

        async def query() -> Sequence[Record]:
            return await self._db.run(lambda db: select(db, topic, partition, limit, first=first))

        return await self._db.poll(query, wait)

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return the last records before an offset; see the contract."""
        bound = {} if before is None else {"before": offset_number(before)}
        return await self._db.run(
            lambda db: select(db, topic, partition, limit, last=True, **bound)
        )

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """Return that nothing is ever dropped; see the contract."""
        return True

    def offset_before(self, offset: str) -> str | None:
        """Return the number before an offset; see the contract."""
        number = offset_number(offset)
        return str(number - 1) if number else None

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """Return the offset before a time; see the contract."""
        statement = (
            "SELECT coalesce(min(offset) FILTER (WHERE appended_at >= ?), max(offset) + 1, 0)"
            " FROM records WHERE topic = ? AND partition = ?"
        )
        values = (time, topic.value, partition)
        (first,) = await self._db.run(lambda db: db.execute(statement, values).fetchone())
        return self.offset_before(str(first))

    def sort_key(self, offset: str) -> bytes:
        """Return a key that orders offsets; see the contract."""
        return offset_sort_key(offset)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """Return a group's progress; see the contract."""

        def work(db: sqlite3.Connection) -> list[Progress]:
            return [
                _progress(p, *db.execute(_PROGRESS, (topic.value, group, p)).fetchone())
                for p in range(self._count(topic))
            ]

        return await self._db.run(work)

    async def surplus(self) -> Sequence[int]:
        """Return nothing: no operator can add partitions to the file."""
        return ()

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """Set a group's positions; see the contract."""

        def work(db: sqlite3.Connection) -> None:
            for partition, through in positions.items():
                values = (topic.value, group, partition, offset_number(through))
                db.execute(_SHOW, values)

        await self._db.run(work)

    async def identity(self) -> str:
        """Return what was drawn at random when the file was made."""
        statement = "SELECT identity FROM log"
        (identity,) = await self._db.run(lambda db: db.execute(statement).fetchone())
        return str(identity)

    async def forget_group(self, group: str) -> None:
        """Delete a group's positions; see the contract."""
        await self._db.run(lambda db: db.execute("DELETE FROM positions WHERE name = ?", (group,)))

    async def groups(self) -> Sequence[GroupStanding]:
        """Return every group that has a position; see the contract."""
        return await self._db.run(
            lambda db: [
                GroupStanding(Topic(topic), name, (topic, name) in _OURS, lag, members=0)
                for topic, name, lag in db.execute(_GROUPS)
            ]
        )

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """Empty the file, and have the next who opens it make the log anew; see the contract."""

        def work(db: sqlite3.Connection) -> list[Holding]:
            counts = "SELECT topic, count(*) FROM records GROUP BY topic ORDER BY topic"
            found = [Holding("table", topic, count) for topic, count in db.execute(counts)]
            for table in () if dry_run else ("records", "positions", "log"):
                db.execute(f"DELETE FROM {table}")
            return found

        return await self._db.run(work)

    async def durability(self) -> Durability:
        """Return that a commit is on this machine's disk, and on no other's."""
        figures = {"journal_mode": "wal", "synchronous": "full"}
        return Durability(crash=True, power=True, disk=False, figures=figures)

    async def ping(self) -> None:
        """Return if the file is there and takes writes."""
        if not self._db.path.exists():
            raise TransportUnavailable(f"{self._db.path} is gone: restart, and find out who did it")
        await self._db.run(lambda db: None)

    def _count(self, topic: Topic) -> int:
        return self.partitions if topic is Topic.MESSAGES else 1


def _bytes(envelope: Envelope) -> dict[str, bytes]:
    return {name: value.encode() for name, value in envelope.headers.items()}


def _progress(partition: int, position: int, end: int, oldest: float | None) -> Progress:
    return Progress(
        partition=partition,
        lag=end - position,
        oldest_age=0.0 if oldest is None else max(0.0, clock.time() - oldest),
        floor=str(position - 1) if position else None,
        end=str(end - 1) if end else None,
        appended=end,
        untrimmed=True,
    )
