"""Payloads move from a folder to S3 and back while clients post and read."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from lab.harness.content_name import is_large
from lab.harness.load import PLAIN
from otel.metrics import Metrics
from persistence.payloads.opening import open_at
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore
from tests.faults.deployment import Deployment
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

_COPY = [sys.executable, "-c", "from compose.cli import main; main()", "payloads", "copy"]
# Statuses of a service whose log or database is slow; they are no errors of payloads.
_LATER = ("/problems/log-unavailable", "/problems/database-unavailable")
_ROW = (
    "SELECT id, payload_key FROM messages WHERE payload_key IS NOT NULL ORDER BY random() LIMIT 1"
)


class _Move:
    """The move from ``old`` to ``new``, with the settings of S3 in every step."""

    def __init__(self, deployment: Deployment, old: str, new: str, s3: dict[str, str]) -> None:
        self.old, self.new = old, new
        self._deployment = deployment
        self._s3 = {**s3, "PAYLOAD_TIMEOUT_MS": "20000", "PAYLOAD_ROW_BYTES": "20000"}

    def settings(self, store: str, fallback: str = "") -> dict[str, Any]:
        """Return the settings of a step, with those of S3 only if a store is on S3."""
        settings = {**self._s3, "PAYLOAD_STORE": store, "PAYLOAD_FALLBACK_STORE": fallback}
        if not f"{store} {fallback}".count("s3:"):
            settings |= {"PAYLOAD_ENDPOINT_URL": "", "PAYLOAD_REGION": ""}
        return settings

    def store(self, address: str) -> PayloadStore:
        values: dict[str, Any] = {name.lower(): value for name, value in self._s3.items()}
        return open_at(address, PayloadSettings(**values), Metrics(), mark=False)

    async def copying(self, *options: str) -> asyncio.subprocess.Process:
        """Begin to copy, in a process of its own."""
        settings = self.settings(self.old, self.new)
        url = self._deployment.database_url
        return await asyncio.create_subprocess_exec(
            *_COPY, "--from", self.old, "--to", self.new, *options,
            env={**os.environ, **settings, "DATABASE_URL": url},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def copy(self) -> None:
        process = await self.copying()
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    async def count(self, address: str) -> int:
        return sum([len(page) async for page in self.store(address).objects()])


@asynccontextmanager
async def read_by_somebody(
    deployment: Deployment, ingresses: list[ForkedService]
) -> AsyncIterator[list[str]]:
    """Read contents of rows until the block ends; yield the list of wrong answers."""
    wrong: list[str] = []
    done = 0
    connection = await asyncpg.connect(deployment.database_url)

    async def read() -> None:
        nonlocal done
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                row, ingress = await connection.fetchrow(_ROW), random.choice(ingresses)
                if row is None or not ingress.up:
                    await asyncio.sleep(0.05)
                    continue
                with suppress(httpx.TransportError):  # it is being restarted
                    answer = await client.get(f"{ingress.url}/api/messages/{row['id']}/content")
                    if answer.status_code == 503 and answer.json()["type"] in _LATER:
                        continue
                    digest = row["payload_key"].partition("/")[2]
                    done += 1
                    if answer.status_code != 200 or sha256(answer.content).hexdigest() != digest:
                        wrong.append(f"{ingress.name}: {answer.status_code} {answer.text[:300]}")
                await asyncio.sleep(0.02)

    task = asyncio.create_task(read())
    try:
        yield wrong
        assert done > 20, "nothing was read: a test of nothing"
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.close()


# In short, and in one process: tests/payloads/test_moving.py.
@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("back", [False, True], ids=["folder to S3", "S3 to folder"])
async def test_payloads_move_to_another_store_while_clients_post_and_read(
    deployment: Deployment, s3_settings: dict[str, str], tmp_path: Path, back: bool
) -> None:
    folder, bucket = tmp_path / "payloads", s3_settings["PAYLOAD_STORE"]
    stores = [folder.resolve().as_uri(), bucket]
    old, new = reversed(stores) if back else stores
    move = _Move(deployment, old, new, s3_settings)
    ingresses, workers = await deployment.run(**move.settings(old))
    load = deployment.load(
        ingresses, mix=PLAIN, patience=1.0, large=1.0, conversations=6, crowded=1, pause=0.2
    )
    async with load, read_by_somebody(deployment, ingresses) as wrong:
        await load.goes_on(40)

        killed = await move.copying("--at-once", "1")
        await eventually(lambda: _has(move, new, 3))
        killed.send_signal(signal.SIGKILL)
        assert await killed.wait() == -signal.SIGKILL, "it was over already: a test of nothing"
        assert await move.count(new) < await move.count(old)
        await move.copy()

        for settings in (move.settings(old, new), move.settings(new, old)):
            for service in (*ingresses, *workers):
                await service.restart(**settings)
                await load.goes_on(5)
        await move.copy()
        for service in (*workers, *ingresses):
            await service.restart(**move.settings(new))
            await load.goes_on(5)
        if not back:
            folder.rename(tmp_path / "away")
        await load.goes_on(10)
    assert wrong == []
    final = await deployment.assert_promises_held()
    assert sum(is_large(row.content) for row in final.rows) >= 80


async def _has(move: _Move, address: str, objects: int) -> bool:
    return await move.count(address) >= objects
