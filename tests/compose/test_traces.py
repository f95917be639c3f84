"""Traces of a real process: exported by itself, flushed at its end, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time

import httpx
import pytest

from compose.local.ports import free_port
from tests.compose.test_guide_steps import BODY, JSON
from tests.support.eventually import eventually
from tests.support.otlp import receiver


@pytest.fixture
async def places(new_redis, database_url) -> dict[str, str]:
    redis = await new_redis()
    return {
        "REDIS_PORT": str(redis.port),
        "REDIS_HOST": redis.host,
        "DATABASE_URL": database_url,
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }


async def test_spans_are_flushed_when_the_process_ends(crossfade, places):
    with receiver("grpc") as collector:
        running = await crossfade(
            "serve",
            **places,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_SERVICE_NAME="messages",
            OTEL_BSP_SCHEDULE_DELAY="600000",  # nothing goes out before the end
            INGRESS_TRACE_URL="http://traces/{traceId}",
        )
        url = (await running.says(r'"url":"(http://[^"]+)"'))[1]
        await running.says("Worker started for partition 15")
        async with httpx.AsyncClient(base_url=url) as client:
            ack = (await client.post("/api/messages", content=BODY, headers=JSON)).json()

            async def persisted() -> dict[str, str] | None:
                view = (await client.get(f"/api/messages/{ack['messageId']}")).json()
                return view if view["state"] == "persisted" else None

            view = await eventually(persisted)
        assert collector.spans == []
        assert await running.terminate() == 0
        names = {span.name for span in collector.of(view["traceId"])}
        assert names >= {"POST /api/messages", "send msg:stream", "INSERT messages"}
        assert {span.resource["service.name"] for span in collector.spans} == {"messages"}
    assert view["traceUrl"] == f"http://traces/{view['traceId']}"
    said = [json.loads(line) for line in running.lines if '"event":"Persisted"' in line]
    assert (said[0]["trace_id"], said[0]["correlation_id"]) == (
        view["traceId"], ack["correlationId"],
    )  # fmt: skip


async def test_a_collector_that_does_not_answer_is_not_felt(crossfade, places):
    """A black hole: connections are taken, and nothing ever comes back."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = await crossfade(
            "serve",
            **places,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BSP_MAX_QUEUE_SIZE="64",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32",
        )
        url = (await running.says(r'"url":"(http://[^"]+)"'))[1]
        metrics = (await running.says(r'"metrics":"(http://[^"]+)"'))[1]
        await running.says("Worker started for partition 15")
        body, slowest = json.loads(BODY), 0.0
        async with httpx.AsyncClient(base_url=url) as client:
            for number in range(100):
                began = time.monotonic()
                answer = await client.post(
                    "/api/messages", json=body | {"clientMessageId": f"m{number}"}
                )
                slowest = max(slowest, time.monotonic() - began)
                assert answer.status_code == 202
            page = (await client.get(metrics)).text
        assert slowest < 2  # an export is given up after 10
        dropped = re.search(r'trace_spans_dropped_total\{reason="queue_full"\} (\S+)', page)
        assert float(dropped[1]) > 0
        ending = asyncio.create_task(running.terminate())
        assert await asyncio.wait_for(ending, 15) == 0
