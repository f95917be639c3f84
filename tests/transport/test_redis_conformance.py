"""Redis and Valkey, each that can be had, against the public suite."""

from __future__ import annotations

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import backend_on
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend


@pytest_asyncio.fixture(params=["redis", "redis@3"])
async def backend(own_redis: ValkeyServer, request: pytest.FixtureRequest) -> Backend:
    return backend_on(own_redis, request.param)
