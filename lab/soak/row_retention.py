"""Row retention in a soak: archives the rows of judged rounds, then repeats some messages."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

from compose.process.metrics import process_metrics
from lab.harness.anomaly import Anomaly, What
from lab.harness.content_name import is_large
from lab.harness.history import ClientAttempt, RequestKind
from lab.load.client import Client
from lab.rehearsal.stage import Stage
from lab.soak.reading import AWAY, read_patiently
from lab.soak.rounds import RunningRound
from lab.soak.vanished import vanished
from persistence.database.pool import Pool, connect, using
from persistence.payloads.opening import open_archive
from persistence.payloads.settings import PayloadSettings
from persistence.retention.archiver import Archiver
from persistence.settings import PersistenceSettings

__all__ = ["RowRetention"]

_NO_DAYS = 0
_ARCHIVED_WITHIN, _ARCHIVED_AGAIN = 120.0, 1.0
_KEPT = 60
_FROM_A_ROUND = 6
_ASKED = 6
_BACK = "SELECT count(*) FROM messages JOIN tombstones USING (id)"
_ROWS = "SELECT coalesce(sum(rows), 0) FROM row_archives WHERE state = 'done'"


class RowRetention:
    """Archives old rows, as ``ROWS_RETENTION_DAYS`` does, and checks that they don't come back.

    Args:
        pool: Connections to the service's database.
        folder: The folder of the archive.
        stage: Its ingresses get the repeated messages.
        seed: Seed of the random choice of messages.
    """

    def __init__(self, pool: Pool, folder: Path, stage: Stage, seed: int) -> None:
        self._pool = pool
        self._stage = stage
        store = open_archive(folder.resolve().as_uri(), PayloadSettings(), process_metrics())
        assert store is not None
        self._store = store
        self._dice = random.Random(seed)
        self._remembered: deque[ClientAttempt] = deque(maxlen=_KEPT)
        self._archived: deque[ClientAttempt] = deque(maxlen=_KEPT)
        self._rows = 0  # archived rows that were reported so far

    @classmethod
    @asynccontextmanager
    async def of(cls, stage: Stage, seed: int) -> AsyncIterator[Self]:
        """Yield an instance with a pool of its own, which closes when the block ends."""
        settings = PersistenceSettings(database_url=stage.database_url, database_pool_size=6)
        pool = await connect(settings)
        try:
            yield cls(pool, stage.folder / "archive", stage, seed)
        finally:
            await pool.close()

    def remember(self, judged: RunningRound) -> None:
        """Choose some messages of a round, to send them again when their rows are archived."""
        plain = [
            attempt
            for attempt in judged.history.acknowledged(RequestKind.MESSAGE)
            if attempt.due is not None and not is_large(attempt.content)
        ]
        self._archived.extend(self._remembered)
        self._remembered.clear()
        self._remembered.extend(self._dice.sample(plain, min(_FROM_A_ROUND, len(plain))))

    async def archive(self, before: datetime) -> tuple[int, list[Anomaly]]:
        """Archive rows from before ``before``; return their number, and anomalies.

        If a fault interrupts it, it tries again after a second, for 120 seconds at most: if it did
        not, the table and its indexes would grow to the rows of several rounds. The next call
        archives the rest.
        """
        deadline = time.monotonic() + _ARCHIVED_WITHIN
        archiver = Archiver(self._pool, self._store, days=_NO_DAYS)
        while True:
            try:
                await archiver.archive(asyncio.Event(), before=before)
                async with using(self._pool) as connection:
                    back = await connection.fetchval(_BACK)
                    done = int(await connection.fetchval(_ROWS))
                break
            except AWAY:
                if time.monotonic() > deadline:
                    return 0, []
                await asyncio.sleep(_ARCHIVED_AGAIN)
        archived, self._rows = done - self._rows, done
        found = []
        if back:
            found.append(Anomaly(What.PHANTOM, "archive", f"{back} archived rows came back"))
        return archived, found + await self._ask_again()

    async def vanished(self, judged: int) -> list[Anomaly]:
        """Return a loss for each judged row that is gone; call it when no message is under way.

        Raises:
            StuckError: PostgreSQL could not be read for 300 seconds.
        """
        return await read_patiently(
            lambda: vanished(self._pool, judged), "the rows could not be counted"
        )

    async def _ask_again(self) -> list[Anomaly]:
        """Send some archived messages again; return an anomaly for each that gets another id."""
        client = Client(2.0)
        found = []
        asked = self._dice.sample(list(self._archived), min(_ASKED, len(self._archived)))
        try:
            for attempt in asked:
                try:
                    answer = await client.post(
                        f"{self._stage.reader_url}/api/messages", _body(attempt)
                    )
                except ConnectionError:
                    continue
                if answer.status >= 500:
                    continue
                told = answer.json().get("messageId") if answer.status < 300 else answer.text[:200]
                if told != attempt.message_id:
                    text = f"archived as {attempt.message_id}; a repeat got {answer.status} {told}"
                    found.append(Anomaly(What.ID_CHANGED, attempt.key, text))
        finally:
            await client.close()
        return found


def _body(attempt: ClientAttempt) -> dict[str, object]:
    """Return the message as the load sent it; its content has its ``clientMessageId``."""
    return {
        "conversationId": attempt.conversation,
        "senderId": attempt.client,
        "content": attempt.content,
        "contentType": "text",
        "clientMessageId": attempt.content.split("/")[1],
        "recipientIds": ["reader"],
    }
