"""Persistence fixtures: a writer on a fresh database, and the fence of partition 0."""

from __future__ import annotations

import pytest

from persistence.placed import Fence
from persistence.writer import Writer


@pytest.fixture
def writer(database_pool) -> Writer:
    return Writer(database_pool)


@pytest.fixture
async def fence(writer: Writer) -> Fence:
    return await writer.take("redis", 0, 1, "test")
