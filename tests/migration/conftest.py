"""Processes and a migration as rows, without running any process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from migration_guide.gates.result import Scene
from migration_guide.machine import Machine
from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Marks
from persistence.fleet.heartbeat import Heartbeat, HeartbeatReport, Identity, machine
from persistence.fleet.log_choice import Choice
from persistence.fleet.migration_state import state as read_state
from persistence.fleet.processes import processes as read_processes
from tests.persistence.fences import OWN
from tests.support.crossfade import Crossfade
from tests.support.kafka import KafkaNode, fresh_settings
from tests.support.phases import CHOICES
from transport.contract import Transport
from transport.kafka import KafkaTransport
from transport.redis import RedisTransport
from transport.settings import TransportSettings


@pytest.fixture
def both(redis_settings: TransportSettings, kafka_server: KafkaNode) -> TransportSettings:
    """Settings for both logs, empty."""
    ours = fresh_settings(kafka_server.bootstrap, transport="redis")
    return redis_settings.model_copy(update=ours.model_dump(exclude_unset=True))


@pytest_asyncio.fixture
async def logs(both) -> AsyncIterator[dict[str, Transport]]:
    """Both logs, open."""
    async with RedisTransport(both) as redis, KafkaTransport(both) as kafka:
        yield {"redis": redis, "kafka": kafka}


@pytest.fixture
def scene(database_pool, both, logs, state_machine) -> Callable[..., Any]:
    """Make the scene of a step: the state as it is recorded, or adopted at its origin."""

    async def make(origin: int, to: int, **changes: Any) -> Scene:
        await state_machine.adopt(CHOICES[origin], "first")
        found = await read_state(database_pool)
        assert found is not None
        opened = changes.pop("opened", logs)
        return Scene(
            pool=database_pool,
            settings=changes.pop("settings", both),
            state=msgspec.structs.replace(found, **changes),
            processes=await read_processes(database_pool),
            origin=origin,
            to=to,
            logs=dict(opened),
        )

    return make


@pytest.fixture
def chain(database_pool) -> KnownChain:
    return KnownChain(database_pool)


@pytest.fixture
def marked(chain, logs) -> Callable[..., Any]:
    """Record that every process writes both logs, since a log had these ends."""

    async def record(primary: str, offsets: Mapping[int, str], identity: str | None = None) -> None:
        other = "kafka" if primary == "redis" else "redis"
        marks = Marks(identity or await logs[primary].identity(), offsets)
        await chain.begin(primary)
        await chain.update(lambda now: now.marked({primary: marks}, primary, other))

    return record


@pytest.fixture
def state_machine(database_pool) -> Machine:
    return Machine(database_pool)


@pytest.fixture
def process(database_pool) -> Callable[..., Any]:
    """Make a process that was heard of ``silent`` seconds ago on ``phase``."""

    async def make(
        member: str,
        phase: int | None,
        *,
        silent: float = 0.0,
        choice: Choice = Choice("memory", None, None, "memory"),  # noqa: B008 - a constant
        **report: Any,
    ) -> None:
        choice = choice if phase is None else CHOICES[phase]
        names = {choice.transport, choice.shadow or choice.transport, choice.consume_from}
        report = {"logs": {name: f"the log {name}" for name in names}, **report}
        identity = Identity(
            member=member, role="serve", host="here", machine=machine(), pid=os.getpid(),
            version="1", api_url="", metrics_url="", transport=choice[0],
            transport_shadow=choice[1], transport_shadow_mode=choice[2], consume_from=choice[3],
            started_at=datetime.now(UTC),
        )  # fmt: skip

        async def heard(_state) -> None:
            return None

        await database_pool.execute("DELETE FROM processes WHERE member = $1", member)
        await Heartbeat(database_pool, identity, lambda: HeartbeatReport(**report), heard).beat()
        await database_pool.execute(
            "UPDATE processes SET seen_at = now() - make_interval(secs => $2) WHERE member = $1",
            member,
            silent,
        )

    return make


@pytest.fixture
def own(database_pool, both) -> Callable[..., Any]:
    """Make a process the owner of partitions of a log; of all, if none is named."""

    async def make(member: str, log: str, *, partitions: Sequence[int] | None = None) -> None:
        for partition in range(both.stream_partitions) if partitions is None else partitions:
            await database_pool.execute(OWN, log, partition, 1, member)

    return make


@pytest.fixture
async def heard_of(database_pool):
    """Let every process be heard of each second, but those that a test made silent (20 s)."""
    heard = "UPDATE processes SET seen_at = now() WHERE seen_at > now() - interval '15 s'"

    async def beat() -> None:
        while True:
            await database_pool.execute(heard)
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()
    await asyncio.wait([beating])


@pytest.fixture
def crossfade(tmp_path, database_url):
    """Run ``crossfade migrate ARGUMENTS`` against the test's database."""
    started = []

    async def start(
        *arguments: str, typed: bool = False, terminal: bool = False, **more: str
    ) -> Crossfade:
        settings = {"DATABASE_URL": database_url, **more}
        arguments = ("migrate", *arguments)
        if typed:
            one = await Crossfade.start(*arguments, cwd=tmp_path, typed=True, **settings)
        elif terminal:
            one = await Crossfade.start_in_terminal(*arguments, cwd=tmp_path, **settings)
        else:
            one = await Crossfade.fork(*arguments, cwd=tmp_path, **settings)
        started.append(one)
        return one

    return start
