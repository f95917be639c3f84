"""A process with the settings of yesterday does not accept messages into a log that was retired."""

from __future__ import annotations

from redis.asyncio import Redis

from persistence.fleet.processes import processes
from tests.support.eventually import eventually

RETIRED = "INSERT INTO retired_logs (name, who, why) VALUES ('redis', 'op', 'moved')"


async def test_it_stops_and_does_not_start_again_but_a_worker_may_empty_the_log(
    crossfade, places, database_pool
):
    running = await crossfade("serve", **places)
    await running.says('"event":"Worker started')
    await database_pool.execute(RETIRED)
    assert await running.ends() == 2
    assert "redis was retired by op" in running.text
    assert await processes(database_pool) == []
    async with Redis(host=places["REDIS_HOST"], port=int(places["REDIS_PORT"]), db=1) as client:
        await client.flushdb()
        again = await crossfade("serve", **places)
        assert await again.ends() == 2
        assert "name the log that is used now in TRANSPORT" in again.text
        assert await client.keys() == [], "it made nothing"
    worker = await crossfade("worker", **places)

    async def works() -> bool:
        return [process.role for process in await processes(database_pool)] == ["worker"]

    await eventually(works)
    assert await worker.terminate() == 0
