"""The file: its tables, its transactions, and the event that ends the wait of a read.

A transport has one connection, used by one thread. Transactions therefore run one after another,
in the order in which they were asked for, and the event loop waits for none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from crossfade.transport import ConfigurationError, TransportUnavailable

__all__ = ["CommitFailed", "Database"]

T = TypeVar("T")

_BUSY_SECONDS = 5.0
_LOOK_SECONDS = 0.05
# positions.next: the offset after a group's published position.
_TABLES = """
CREATE TABLE IF NOT EXISTS log (identity TEXT NOT NULL, partitions INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    topic TEXT, partition INTEGER, offset INTEGER, key TEXT NOT NULL, body BLOB NOT NULL,
    headers BLOB NOT NULL, appended_at REAL NOT NULL, PRIMARY KEY (topic, partition, offset));
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, name TEXT, partition INTEGER, next INTEGER NOT NULL,
    PRIMARY KEY (topic, name, partition));
"""


class CommitFailed(TransportUnavailable):
    """A commit failed: SQLite does not say whether its transaction will be there."""


class Database:
    """One connection to the file."""

    def __init__(self, path: Path, partitions: int) -> None:
        self.path = path
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, when somebody committed. Take it before you look."""
        self._partitions = partitions
        self._thread: ThreadPoolExecutor
        self._connection: sqlite3.Connection
        self._watching: asyncio.Task[None]

    async def open(self) -> None:
        """Connect, and make what is missing.

        Raises:
            ConfigurationError: the log was made with another number of partitions.
        """
        self._thread = ThreadPoolExecutor(1, "sqlite-log")
        try:
            await self._in_thread(self._connect)
            try:
                await self.run(self._make)
            except BaseException:
                await self._in_thread(self._connection.close)
                raise
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Disconnect, after what is under way."""
        self._watching.cancel()
        await self._in_thread(self._connection.close)
        self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` as one transaction, alone among all processes; return what it returns.

        Cancelling the call leaves the transaction under way.

        Raises:
            TransportUnavailable: SQLite failed; a ``CommitFailed`` may count nevertheless.
        """
        return await self._in_thread(lambda: self._transact(work))

    async def poll(self, query: Callable[[], Awaitable[Sequence[T]]], wait: float) -> Sequence[T]:
        """Run ``query``, and again after each commit, until it returns something.

        Args:
            query: reads the file; an empty result means that there is nothing yet.
            wait: the seconds after which an empty result is returned.
        """
        deadline = time.monotonic() + wait
        while True:
            changed = self.changed
            found = await query()
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await changed.wait()

    def ring(self) -> None:
        """Wake all who wait for ``changed``."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise TransportUnavailable(f"{self.path}: {error}") from error

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # durable before a commit returns

    def _make(self, connection: sqlite3.Connection) -> None:
        for table in _TABLES.split(";"):
            connection.execute(table)
        made = connection.execute("SELECT partitions FROM log").fetchone()
        if made is None:
            connection.execute("INSERT INTO log VALUES (?, ?)", (str(uuid4()), self._partitions))
        elif made[0] != self._partitions:
            raise ConfigurationError(
                f"{self.path} has {made[0]} partitions, and is to be used with {self._partitions}: "
                f"set STREAM_PARTITIONS={made[0]}, or name the log sqlite@{self._partitions}"
            )

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise CommitFailed(f"{self.path}: {error}") from error
        return result

    async def _watch(self) -> None:
        """Ring when another connection has committed."""
        seen = None
        while True:
            with contextlib.suppress(TransportUnavailable):
                version = await self._in_thread(self._version)
                if version != seen:
                    self.ring()
                seen = version
            await asyncio.sleep(_LOOK_SECONDS)

    def _version(self) -> object:
        return self._connection.execute("PRAGMA data_version").fetchone()
