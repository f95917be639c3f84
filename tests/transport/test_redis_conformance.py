"""Redis and Valkey, each that can be had, against the public suite.

The user has the rights that ``docs/redis.md`` asks for, and no others.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.transport.redis_backend import backend_on
from transport.conformance import *  # noqa: F403
from transport.conformance import Backend
from transport.redis.administration.lacking_rights import probes
from transport.redis.connection.rights import BETTER, LEAST
from transport.rights import LackingRights, TellsRights

_USER, _PASSWORD = "transport", "pw"
_PAGE = Path(__file__).parents[2] / "docs" / "redis.md"


async def _let_in(server: ValkeyServer) -> None:
    rights = ("reset", "on", f">{_PASSWORD}", *LEAST.split(), *BETTER.split())
    async with Redis(host=server.host, port=server.port) as client:
        await client.execute_command("ACL", "SETUSER", _USER, *rights)


@pytest_asyncio.fixture
async def backend(own_redis: ValkeyServer) -> Backend:
    async def start() -> None:
        await own_redis.start()
        await _let_in(own_redis)

    await _let_in(own_redis)
    made = backend_on(own_redis, redis_username=_USER, redis_password=_PASSWORD)
    return dataclasses.replace(made, start=start)


def test_the_page_has_these_rights() -> None:
    page = " ".join(_PAGE.read_text().split())
    assert LEAST in page
    assert BETTER in page


def test_each_right_is_looked_at_that_is_not_used_when_a_log_is_opened() -> None:
    at_opening = {"+multi", "+exec", "+select", "+function|load", "+script|load"}
    rights = {right for right in f"{LEAST} {BETTER}".split() if right.startswith("+")}
    assert set(probes("msg:stream")) == rights - at_opening


async def test_a_user_with_these_rights_lacks_nothing(backend: Backend) -> None:
    async with backend.create() as log:
        assert isinstance(log, TellsRights)
        assert await log.lacking_rights() == LackingRights(needed=[], useful=[])
