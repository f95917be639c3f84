"""Processes and a migration as rows, without running any process."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from migration_guide.choice import CHOICES
from migration_guide.machine import Machine
from persistence.presence import Identity, Presence, Report, machine


@pytest.fixture
def state_machine(database_pool) -> Machine:
    return Machine(database_pool)


@pytest.fixture
def process(database_pool) -> Callable[..., Any]:
    """Make a process that was heard of ``silent`` seconds ago on ``phase``."""

    async def make(member: str, phase: int | None, *, silent: float = 0.0, **report: Any) -> None:
        choice = CHOICES[phase] if phase is not None else ("memory", None, None, "memory")
        identity = Identity(
            member=member, role="serve", host="here", machine=machine(), pid=os.getpid(),
            version="1", api_url="", metrics_url="", phase=phase, transport=choice[0],
            transport_shadow=choice[1], transport_shadow_mode=choice[2], consume_from=choice[3],
            started_at=datetime.now(UTC),
        )  # fmt: skip

        async def heard(_state) -> None:
            return None

        await database_pool.execute("DELETE FROM processes WHERE member = $1", member)
        await Presence(database_pool, identity, lambda: Report(**report), heard).beat()
        await database_pool.execute(
            "UPDATE processes SET seen_at = now() - make_interval(secs => $2) WHERE member = $1",
            member,
            silent,
        )

    return make
