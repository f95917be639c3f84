"""The identity of a log: its name, and the id that no other log has."""

from __future__ import annotations

import pytest

from transport.conformance.backend import Backend
from transport.conformance.member import messages
from transport.log_name import LogName


@pytest.mark.asyncio
async def test_a_log_has_a_name_and_as_many_partitions_as_it_says(backend: Backend) -> None:
    log = backend.create()
    name = LogName.parse(log.name)
    assert str(name) == log.name
    assert name.partitions in (None, log.partitions)
    assert log.system


@pytest.mark.asyncio
async def test_all_who_use_a_log_are_told_the_same_identity(backend: Backend) -> None:
    async with backend.create() as log, backend.create() as other:
        identity = await log.identity()
        assert identity
        await log.publish(messages(["a"], partition=0, of=log))
        assert identity == await log.identity() == await other.identity()
