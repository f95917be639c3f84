"""One ingress and one client for the folder, in front of a real log and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ingress.conftest import (  # noqa: F401 - fixtures
    database_pool,
    index_dead_letters,
    launch,
    log,
    module_pool,
    redis,
    start,
)
from tests.support.raw_client import RawClient, raw_client


@pytest.fixture
def door() -> str:
    return "protocol"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[RawClient]:
    async with raw_client(tmp_path) as running:
        yield running


@pytest.fixture
def other_turns() -> object:
    """Let everything that is ready run."""

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    return turns
