"""``INGRESS_QUEUE_PERCENT`` and ``INGRESS_MODE`` change under load; order stays (promise 3)."""

from __future__ import annotations

import pytest

from tests.faults.stand import Stand


@pytest.mark.parametrize(
    "steps",
    [
        [{"INGRESS_QUEUE_PERCENT": "10"}, {"INGRESS_QUEUE_PERCENT": "100"}],
        [{"INGRESS_MODE": "direct"}, {"INGRESS_MODE": "queue"}],
    ],
    ids=["100-10-100", "queue-direct-queue"],
)
async def test_a_rolling_change_keeps_the_order(stand: Stand, steps: list[dict[str, str]]) -> None:
    """For a while one ingress queues what the other persists directly."""
    ingresses, (worker,) = await stand.run()
    async with stand.load(ingresses) as load, stand.reader(ingresses, load.conversations[-8:]):
        for step in steps:
            await load.goes_on(150)
            # The hard part of the promise: what was queued before the change is still in the log
            # when its conversation goes on, and would be overtaken by a direct insert.
            await worker.suspend()
            await load.goes_on(50)
            await ingresses[0].restart(**step)
            await load.goes_on(100)
            await worker.resume()
            await load.goes_on(50)
            await ingresses[1].restart(**step)
        await load.goes_on(150)
    final = await stand.assert_promises_held()
    assert {row.transport for row in final.rows} == {stand.log.name, "direct"}
