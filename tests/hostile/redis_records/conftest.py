"""Servers and services for the tests of hostile records, and of failovers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio

from compose.local.valkey import ValkeyServer
from tests.faults.logs import RedisLog
from tests.faults.stand import Stand


@pytest_asyncio.fixture
async def stand(
    new_redis: Callable[..., Awaitable[ValkeyServer]],
    postgres_server: Any,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Stand]:
    """Processes of ours on a Redis of the test's own."""
    async with AsyncExitStack() as stack:
        log = RedisLog(await new_redis(repl_diskless_sync_delay="0"))
        made = Stand(log, postgres_server, database_url, tmp_path / "services", stack)
        yield made
        await made.stop()
