"""A log of another number of partitions: the part of the suite where its name counts.

A name decides keys, groups, partitions and the identity. What is delivered to whom depends on none
of these, and is tried under the plain name (``test_redis_conformance.py``).
"""

from __future__ import annotations

import pytest

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import backend_on
from transport.conformance.backend import Backend
from transport.conformance.groups import *  # noqa: F403
from transport.conformance.identity import *  # noqa: F403
from transport.conformance.progress import *  # noqa: F403
from transport.conformance.publishing import *  # noqa: F403
from transport.conformance.removal import *  # noqa: F403


@pytest.fixture
def backend(own_redis: ValkeyServer) -> Backend:
    return backend_on(own_redis, "redis@3")
