"""Consumer groups: each member shares out the partitions, in transactions, and so agrees with all.

A member is in the table ``members`` until its lease runs out. At each beat it renews the lease,
takes partitions from members that are gone, and claims what is free and its own by ``fair_shares``.
What it has beyond its share it is to hand back: ``next`` raises, and ``ack`` counts until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Self
from uuid import uuid4

from crossfade.transport import (
    Claim,
    PartitionLost,
    Record,
    Topic,
    TransportError,
    TransportUnavailable,
    fair_shares,
)
from tests.sqlite_log.database import Database
from tests.sqlite_log.records import select

__all__ = ["SqliteClaim", "SqliteConsumer"]

_BEAT_SECONDS = 0.1
_MINE = "WHERE topic = ? AND name = ?"


class _Position(NamedTuple):
    """A partition as a beat left it. ``wanted``: it is this member's share."""

    partition: int
    acked: int
    epoch: int
    owner: str | None
    claim: str | None
    wanted: bool = False
    new: bool = False


class SqliteConsumer:
    """See ``crossfade.transport.Consumer``."""

    def __init__(
        self, db: Database, topic: Topic, partitions: int, *, group: str, member: str, lease: float
    ) -> None:
        self.topic = topic
        self.place = (topic.value, group)
        self.db = db
        self.claims_held: dict[int, SqliteClaim] = {}
        self._partitions = partitions
        self._member = member
        self._lease = lease
        self._arrived: asyncio.Queue[SqliteClaim | None] = asyncio.Queue()
        self._beating: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        await self._share()
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.silence()
        for claim in list(self.claims_held.values()):
            claim.lose()
        with contextlib.suppress(TransportUnavailable):  # the lease runs out then
            await self.db.run(self._leave)
        self.db.ring()
        self._arrived.put_nowait(None)

    async def claims(self) -> AsyncIterator[Claim]:
        """Yield partitions as they come; see the contract."""
        while (claim := await self._arrived.get()) is not None:
            yield claim
        self._arrived.put_nowait(None)

    def silence(self) -> None:
        """Be heard of no more."""
        self._beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with contextlib.suppress(TransportUnavailable):
                await self._share()

    async def _share(self) -> None:
        held = {partition: claim.token for partition, claim in self.claims_held.items()}
        positions = await self.db.run(lambda db: self._shared_out(db, held))
        for at in positions:
            claim = self.claims_held.get(at.partition)
            if claim and claim.token != at.claim:
                claim.lose()
                claim = None
            if at.new:
                claim = self.claims_held[at.partition] = SqliteClaim(self, at)
                self._arrived.put_nowait(claim)
            elif claim and not at.wanted:
                claim.revoke()

    def _shared_out(self, db: sqlite3.Connection, held: Mapping[int, str]) -> list[_Position]:
        """Renew the lease, and claim what is free and this member's."""
        now = time.time()
        db.execute(f"DELETE FROM members {_MINE} AND expires < ?", (*self.place, now))
        db.execute(
            "INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET expires = excluded.expires WHERE expires < ?",  # written seldom
            (*self.place, self._member, now + self._lease, now + 0.75 * self._lease),
        )
        db.execute(
            f"UPDATE positions SET owner = NULL, claim = NULL {_MINE} AND owner NOT IN"
            f" (SELECT member FROM members {_MINE})",
            (*self.place, *self.place),
        )
        db.executemany(
            "INSERT OR IGNORE INTO positions (topic, name, partition) VALUES (?, ?, ?)",
            [(*self.place, partition) for partition in range(self._partitions)],
        )
        members = db.execute(f"SELECT member FROM members {_MINE} ORDER BY member", self.place)
        rows = db.execute(
            f"SELECT partition, acked, epoch, owner, claim FROM positions {_MINE}"
            " ORDER BY partition",
            self.place,
        )
        positions = [_Position(*row) for row in rows]
        shares = fair_shares([member for (member,) in members], [at.owner for at in positions])
        return [
            self._taken(db, at, held)._replace(wanted=True) if share == self._member else at
            for at, share in zip(positions, shares, strict=True)
        ]

    def _taken(self, db: sqlite3.Connection, at: _Position, held: Mapping[int, str]) -> _Position:
        """Claim a partition that is this member's share, unless it has an owner."""
        here_before = at.owner == self._member and held.get(at.partition) != at.claim
        if at.owner is not None and not here_before:
            return at
        # From a clock, so that it is greater than any of a log that was here and was deleted.
        epoch, token = max(at.epoch + 1, time.time_ns() // 1_000_000), str(uuid4())
        db.execute(
            f"UPDATE positions SET owner = ?, claim = ?, epoch = ? {_MINE} AND partition = ?",
            (self._member, token, epoch, *self.place, at.partition),
        )
        return at._replace(claim=token, epoch=epoch, new=True)

    def _leave(self, db: sqlite3.Connection) -> None:
        mine = (*self.place, self._member)
        db.execute(f"DELETE FROM members {_MINE} AND member = ?", mine)
        db.execute(f"UPDATE positions SET owner = NULL, claim = NULL {_MINE} AND owner = ?", mine)


class SqliteClaim:
    """See ``crossfade.transport.Claim``. Every statement is fenced by the claim's token."""

    blocked = None

    def __init__(self, consumer: SqliteConsumer, at: _Position) -> None:
        assert at.claim is not None
        self.topic = consumer.topic
        self.partition = at.partition
        self.epoch = at.epoch
        self.token = at.claim
        self._consumer = consumer
        self._db = consumer.db
        self._next = at.acked
        self._leaving = False
        self._mine = (*consumer.place, at.partition, at.claim)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.lose()
        with contextlib.suppress(TransportError):
            await self._set("owner = NULL, claim = NULL")

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the next records in order; see the contract."""

        async def query() -> Sequence[Record]:
            if self._leaving:
                raise PartitionLost(f"partition {self.partition} moves to another member")
            return await self._db.run(lambda db: self._found(db, max_records))

        found = await self._db.poll(query, max_wait)
        self._next = int(found[-1].offset) + 1 if found else self._next
        return found

    async def ack(self, through: str) -> None:
        """Acknowledge through ``through``; see the contract."""
        await self._set("acked = max(acked, ?)", int(through) + 1)

    async def nack(self) -> None:
        """Deliver the unacknowledged again; see the contract."""
        (self._next,) = await self._set("acked = acked", returning="acked")

    async def raise_epoch(self, above: int) -> None:
        """Exceed ``above``; see the contract."""
        (self.epoch,) = await self._set("epoch = max(epoch, ?) + 1", above, returning="epoch")

    def revoke(self) -> None:
        """Have the owner leave: ``next`` raises from now on, ``ack`` still counts."""
        self._leaving = True
        self._db.ring()

    def lose(self) -> None:
        """Have ``next`` raise, and the consumer forget this claim. The token fences the rest."""
        self.revoke()
        if self._consumer.claims_held.get(self.partition) is self:
            del self._consumer.claims_held[self.partition]

    def _found(self, db: sqlite3.Connection, limit: int) -> Sequence[Record]:
        if not db.execute(
            f"SELECT 1 FROM positions {_MINE} AND partition = ? AND claim = ?", self._mine
        ).fetchone():
            raise PartitionLost(f"partition {self.partition} has another owner")
        return select(db, self.topic, self.partition, limit, first=self._next)

    async def _set(self, what: str, *values: int, returning: str = "1") -> tuple[int]:
        """Update this claim's row."""
        row: tuple[int] | None = await self._db.run(
            lambda db: db.execute(
                f"UPDATE positions SET {what} {_MINE} AND partition = ? AND claim = ?"
                f" RETURNING {returning}",
                (*values, *self._mine),
            ).fetchone()
        )
        if row is None:
            raise PartitionLost(f"partition {self.partition} has another owner")
        return row
