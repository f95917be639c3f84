"""``crossfade serve`` and ``crossfade worker`` beside servers that they did not start."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
from redis.asyncio import Redis

from compose.local.ports import free_port
from otel.metrics_server import TARGETS
from tests.compose.test_guide_steps import BODY, JSON
from tests.support.eventually import eventually


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


async def _post(api: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{api}/api/messages", content=BODY, headers=JSON)


async def test_a_taken_port_is_an_error_that_says_what_to_do(crossfade, places):
    with socket.create_server(("127.0.0.1", int(places["PORT"]))):
        running = await crossfade("serve", **places)
        assert await running.ends() == 2
    assert f"PORT={places['PORT']} is taken" in running.text
    assert "set PORT to another" in running.text
    assert "Traceback" not in running.text


async def test_a_taken_metrics_port_moves_on_and_says_so(crossfade, places):
    with socket.create_server(("127.0.0.1", int(places["METRICS_PORT"]))):
        running = await crossfade("serve", **places)
        await running.says("METRICS_PORT is taken")
        metrics = (await running.says(r'"metrics":"(http://[^"]+)"'))[1]
        assert httpx.URL(metrics).port != int(places["METRICS_PORT"])
        assert "stream_enqueue_total" in (await _get(metrics)).text


async def test_the_urls_that_it_names_work_with_ipv6(crossfade, places):
    running = await crossfade("serve", **places, HOST="::1", METRICS_HOST="::1")
    named = await running.says(r'"url":"(http://[^"]+)","metrics":"(http://[^"]+)"')
    await running.says("Worker started")
    assert (await _get(f"{named[1]}/healthz")).status_code == 200
    assert "stream_enqueue_total" in (await _get(named[2])).text

    async def listed() -> bool:
        targets = await _get(str(httpx.URL(named[2]).copy_with(path=TARGETS)))
        return f"[::1]:{httpx.URL(named[2]).port}" in targets.text

    await eventually(listed)


async def test_sigterm_hands_the_partitions_back_and_ends_with_status_0(
    crossfade, places, database_pool
):
    first = await crossfade("serve", **places)
    await first.says("Worker started for partition 15")
    assert await first.terminate() == 0
    assert "Cut off" not in first.text  # asked to end, not cancelled
    owners = "SELECT owner FROM fences WHERE partition >= 0 GROUP BY owner"
    assert [row["owner"] for row in await database_pool.fetch(owners)] == [""]
    second = await crossfade("worker", **places)
    for partition in range(16):
        await second.says(f"Worker started for partition {partition}\\b")
    assert await second.terminate() == 0


async def test_any_number_of_processes_share_the_partitions(crossfade, places):
    first = await crossfade("serve", **places)
    await first.says("Worker started for partition 15")
    second = await crossfade("worker", **places)  # the same ports: its health moves on
    url = (await second.says(r'"url":"(http://[^"]+)"'))[1]
    await second.says("Worker started for partition")

    async def shared() -> bool:
        detail = [c["detail"] for c in (await _get(f"{url}/readyz")).json()["components"]]
        return "Own 8 partitions." in detail

    await eventually(shared)
    assert await second.terminate() == 0
    assert await first.terminate() == 0


async def test_it_starts_while_the_log_is_down_says_so_and_recovers(crossfade, places, tmp_path):
    from compose.local.valkey import ValkeyServer  # noqa: PLC0415

    port = free_port()
    api = f"http://127.0.0.1:{places['PORT']}"
    running = await crossfade("serve", **{**places, "REDIS_PORT": str(port)})
    await running.says("The log is not available yet")
    await eventually(lambda: _is_alive(api))
    ready = await _get(f"{api}/readyz")
    assert ready.status_code == 503
    assert [c["status"] for c in ready.json()["components"] if c["name"] == "log (redis)"] == [
        "down"
    ]
    refused = await _post(api)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]

    server = ValkeyServer(tmp_path / "late", port=port)
    await server.start()
    try:

        async def accepted() -> bool:
            return (await _post(api)).status_code in {200, 202}

        await eventually(accepted)
        assert (await _get(f"{api}/readyz")).status_code == 200
        assert await running.terminate() == 0
    finally:
        await server.stop()


async def test_records_that_left_the_log_unread_are_told_in_readiness(crossfade, places):
    api = f"http://127.0.0.1:{places['PORT']}"
    running = await crossfade("serve", **places, ENABLE_STREAM_CONSUMERS="false")
    await eventually(lambda: _is_ready(api))
    assert await _losses(api) == ("up", "No record left a log unread.")
    assert (await _post(api)).status_code == 202
    async with Redis(host=places["REDIS_HOST"], port=int(places["REDIS_PORT"]), db=1) as client:
        (stream,) = [
            name.decode()
            async for name in client.scan_iter("msg:stream:*")
            if await client.xlen(name)
        ]
        await eventually(lambda: _is_noted(client, stream))
        await client.delete(stream)

    async def told() -> bool:
        status, detail = await _losses(api)
        return status == "degraded" and detail.startswith("1 record left redis unread, ")

    await eventually(told)
    ready = await _get(f"{api}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert await running.terminate() == 0


async def _is_noted(client: Redis, stream: str) -> bool:
    """Return whether the log has noted that the stream has one record, which no worker reads."""
    return await client.hget(f"{{{stream}}}:generations", "end") == b"1"


async def _losses(api: str) -> tuple[str, str]:
    components = (await _get(f"{api}/readyz")).json()["components"]
    return next((c["status"], c["detail"]) for c in components if c["name"] == "losses")


async def test_it_starts_while_postgresql_is_down_and_accepts(crossfade, places):
    api = f"http://127.0.0.1:{places['PORT']}"
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    running = await crossfade("serve", **{**places, "DATABASE_URL": nowhere})
    await eventually(lambda: _is_alive(api))
    assert (await _post(api)).status_code == 202
    ready = await _get(f"{api}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert await running.terminate() == 0


async def test_a_worker_without_postgresql_is_not_ready(crossfade, places):
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    running = await crossfade("worker", **{**places, "DATABASE_URL": nowhere})
    url = (await running.says(r'"url":"(http://[^"]+)"'))[1]
    await eventually(lambda: _is_alive(url))
    assert (await _get(f"{url}/readyz")).status_code == 503
    assert await running.terminate() == 0


async def test_readiness_fails_before_the_api_stops(crossfade, places):
    api = f"http://127.0.0.1:{places['PORT']}"
    running = await crossfade("serve", **places, SHUTDOWN_DELAY_SECONDS="5")
    await eventually(lambda: _is_ready(api))
    running.process.send_signal(signal.SIGTERM)

    async def draining() -> bool:
        return (await _get(f"{api}/readyz")).status_code == 503

    await eventually(draining)
    assert (await _post(api)).status_code == 202  # still served
    assert await running.ends() == 0


async def _is_alive(api: str) -> bool:
    try:
        return (await _get(f"{api}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def _is_ready(api: str) -> bool:
    return await _is_alive(api) and (await _get(f"{api}/readyz")).status_code == 200


async def test_a_second_signal_ends_it_on_the_spot(crossfade, places, tmp_path: Path):
    running = await crossfade("serve", **places, SHUTDOWN_DELAY_SECONDS="60")
    await running.says("Worker started")
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGTERM)  # an echo of the first, as a wrapper passes it on
    await running.says("Stopping")
    assert (await _get(f"http://127.0.0.1:{places['PORT']}/healthz")).status_code == 200

    async def ended() -> bool:
        if running.process.returncode is None:
            running.process.send_signal(signal.SIGINT)
        return running.process.returncode is not None

    await eventually(ended, every=0.2)
    assert await running.ends() == 130
