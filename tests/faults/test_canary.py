"""``INGRESS_QUEUE_PERCENT`` and ``INGRESS_MODE`` change under load; order stays (promise 3)."""

from __future__ import annotations

import pytest

from tests.faults.deployment import Deployment


@pytest.mark.parametrize(
    "steps",
    [
        [{"INGRESS_QUEUE_PERCENT": "10"}, {"INGRESS_QUEUE_PERCENT": "100"}],
        [{"INGRESS_MODE": "direct"}, {"INGRESS_MODE": "queue"}],
    ],
    ids=["100-10-100", "queue-direct-queue"],
)
async def test_a_rolling_change_keeps_the_order(
    deployment: Deployment, steps: list[dict[str, str]]
) -> None:
    """For a while one ingress queues what the other persists directly."""
    ingresses, (worker,) = await deployment.run()
    async with (
        deployment.load(ingresses) as load,
        deployment.reader(ingresses, load.conversations[-8:]),
    ):
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
    final = await deployment.assert_promises_held()
    assert {row.transport for row in final.rows} == {deployment.log.name, "direct"}
