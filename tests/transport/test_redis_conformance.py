"""Redis and Valkey, each that can be had, against the public suite."""

from __future__ import annotations

import pytest

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import backend_on
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend


@pytest.fixture
def backend(own_redis: ValkeyServer) -> Backend:
    return backend_on(own_redis)
