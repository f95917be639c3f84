"""Processes leave a mirrored phase by hand and come back: later gates must know of it."""

from __future__ import annotations

import pytest

from migration_guide.phases import step
from migration_guide.steps import Checked, Steps
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.faults.both_logs import KAFKA, PRIMARY, BothLogsDeployment
from transport.settings import TransportSettings

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

ALONE = {**KAFKA, "TRANSPORT_SHADOW": "", "TRANSPORT_SHADOW_MODE": "", "CONSUME_FROM": ""}


async def test_messages_of_phase_5_by_hand_hold_up_the_step_back_to_phase_3(
    both_logs: BothLogsDeployment,
) -> None:
    """Redis lacks them, and no event of the migration says that they were accepted."""
    (ingress,), (worker,) = await both_logs.run(ingresses=1, **ALONE)
    environment = {name.lower(): value for name, value in both_logs.log.environment().items()}
    settings = TransportSettings(**environment)  # type: ignore[arg-type]
    pool = await connect(PersistenceSettings(database_url=both_logs.database_url))
    steps = Steps(pool, settings)

    async def judged(origin: int, to: int) -> Checked:
        return await steps.check(step(origin, to), window=60)

    async def verdict() -> str:
        await steps.complete(await steps.look(), who="op")
        results = {result.name: result for result in (await judged(4, 3)).results}
        assert results["processes"].verdict == "green", results
        return results["watermark"].verdict

    try:
        async with both_logs.load([ingress], conversations=12) as load:
            await load.goes_on(40)
            await steps.begin(await judged(5, 4), who="op", why="back", overrides={})
            for process in (ingress, worker):
                await process.restart(**PRIMARY)
            assert await steps.complete(await steps.look(), who="op") is not None
            await both_logs.catches_up(logs=("kafka",))
            assert await verdict() == "green"
            await worker.stop()  # from here on, messages wait in Kafka
            await ingress.restart(**ALONE)
            await load.goes_on(40)
            await ingress.restart(**PRIMARY)
            await load.goes_on(40)
            assert await verdict() == "red"
            await worker.start(**PRIMARY)
            await both_logs.catches_up(logs=("kafka",))
            assert await verdict() == "green"
    finally:
        await pool.close()
    await both_logs.assert_promises_held()
