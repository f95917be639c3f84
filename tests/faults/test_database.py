"""PostgreSQL stops, dies, freezes and drops connections: an outage is not a poison message."""

from __future__ import annotations

import pytest

from tests.faults.database import crash, drop_connections
from tests.faults.deployment import Deployment


@pytest.mark.parametrize("fault", ["stop", "crash", "kill", "suspend"])
async def test_the_database_goes_away_and_comes_back_under_load(
    deployment: Deployment, fault: str
) -> None:
    """Messages are accepted all the while, and none of them becomes a dead letter."""
    ingresses, _ = await deployment.run()
    server = deployment.postgres
    async with deployment.load(ingresses) as load:
        for _ in range(2):
            await load.goes_on(150)
            await (crash(server) if fault == "crash" else getattr(server, fault)())
            await load.goes_on(150)
            await (server.resume() if fault == "suspend" else server.start())
            await load.goes_on(50)
    final = await deployment.assert_promises_held()
    assert {letter.reason for letter in final.letters} <= {"idempotency_conflict"}


async def test_connections_to_the_database_are_cut_again_and_again(deployment: Deployment) -> None:
    ingresses, _ = await deployment.run()
    async with deployment.load(ingresses) as load:
        for _ in range(15):
            await load.goes_on(25)
            await drop_connections(deployment.database_url)
        await load.goes_on(50)
    await deployment.assert_promises_held()
