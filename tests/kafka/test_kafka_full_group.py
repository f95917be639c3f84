"""A broker that bounds the members of a group, and one process too many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings, run_kafka
from transport.conformance.member import Member, contents, drain, messages
from transport.kafka import KafkaTransport


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    async with run_kafka(tmp_path, config={"group.max.size": "1"}) as server:
        yield server


async def test_a_member_too_many_is_told_why_and_takes_over_when_there_is_room(
    server: KafkaServer,
) -> None:
    settings = fresh_settings(server.bootstrap)
    log, other = KafkaTransport(settings), KafkaTransport(settings)
    async with log, other, AsyncExitStack() as first:
        one = await first.enter_async_context(Member(log, "one"))
        await one.claim(0)
        async with Member(other, "two") as two:

            def is_told() -> bool:
                return "raise group.max.size" in str(two.consumer.fault)  # type: ignore[attr-defined]

            await eventually(is_told, 60.0)
            await log.publish(messages(["a"], partition=0, of=log))
            await first.aclose()
            assert contents(await drain(await two.claim(0), 1, patience=30.0)) == ["a"]
