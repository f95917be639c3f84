"""Processes come while the gates of a step are judged, one after another."""

from __future__ import annotations

import asyncio

from migration_guide.steps import Steps
from tests.support.eventually import eventually
from tests.support.phases import CHOICES

_WAITS = "SELECT count(*) FROM pg_locks WHERE relation = 'shadow_gaps'::regclass AND NOT granted"


async def test_a_process_that_starts_meanwhile_is_seen(
    process, state_machine, database_pool, redis_settings
):
    """The last gates may be judged a minute after the first."""
    await state_machine.adopt(CHOICES[2], "first")
    await process("a", 2, logs={"redis": "R", "kafka": "K"})
    nobody = {"kafka_bootstrap_servers": "127.0.0.1:1", "kafka_timeout_ms": 500}
    steps = Steps(database_pool, redis_settings.model_copy(update=nobody))
    step = steps.next_step((await steps.look()).state, forward=True)

    async def waits() -> bool:
        return bool(await database_pool.fetchval(_WAITS))

    async with database_pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE shadow_gaps")
        judging = asyncio.create_task(steps.check(step, window=60))
        await eventually(waits)  # of the gate ``dropped``
        await process("b", 1, logs={"redis": "another", "kafka": "K"})
        await transaction.rollback()
    results = (await judging).results
    assert [result.name for result in results] == list(step.gates)
    reasons = {result.name: (result.verdict, result.reason) for result in results}
    assert reasons["processes"] == ("red", "not on phase 2: b (serve, phase 1)")
    assert reasons["identity"][0] == "red"
