"""The log stops, dies, freezes and loses everything."""

from __future__ import annotations

import time

import pytest

from lab.harness.anomaly import Anomaly, What
from lab.harness.history import Outcome
from lab.harness.load import PLAIN
from tests.faults.database import inserts_held
from tests.faults.deployment import Deployment
from tests.support.eventually import eventually


@pytest.mark.parametrize("fault", ["stop", "kill", "suspend"])
async def test_the_log_goes_away_and_comes_back_under_load(
    deployment: Deployment, fault: str
) -> None:
    """Requests get a 503 with ``Retry-After``, or time out; all are retried."""
    ingresses, _ = await deployment.run()
    server = deployment.log.server
    async with deployment.load(ingresses) as load:
        for _ in range(2):
            await load.goes_on(150)
            unknown = deployment.history.count(Outcome.UNKNOWN)
            await getattr(server, fault)()
            await eventually(
                lambda seen=unknown: deployment.history.count(Outcome.UNKNOWN) > seen + 20,
            )
            await (server.resume() if fault == "suspend" else server.start())
            await load.goes_on(100)
    await deployment.assert_promises_held()


async def test_the_log_loses_everything(deployment: Deployment) -> None:
    """The loss is counted, not hidden; what is acknowledged afterwards is kept again."""
    ingresses, (worker,) = await deployment.run()
    # Plain: a receipt for a lost message is refused, and rightly so.
    async with deployment.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(150)
        async with inserts_held(deployment.database_url) as held:
            await held.waiting()
            await load.goes_on(150)
            await deployment.log.wipe()
            wiped = time.monotonic()
        await load.goes_on(300)

    # Messages sent before the loss may have been in the log, even if their answers came later.
    sent = {attempt.key: attempt.sent for attempt in deployment.history.acknowledged()}

    def went_with_the_log(anomaly: Anomaly) -> bool:
        return anomaly.what is What.LOST and sent[anomaly.where] < wiped

    anomalies, _ = await deployment.judge()
    assert any(went_with_the_log(a) for a in anomalies), "nothing was lost: a test of nothing"
    await deployment.assert_promises_held(except_for=went_with_the_log)

    async def told() -> bool:
        return any([await s.metric("stream_loss_detected") > 0 for s in (worker, *ingresses)])

    await eventually(told, every=0.2)
