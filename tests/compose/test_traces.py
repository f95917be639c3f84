"""Traces of a real process: exported by itself, flushed at its end, never delaying a request."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import asyncpg
import httpx

from tests.compose.test_guide_steps import BODY, JSON
from tests.support.eventually import eventually
from tests.support.otlp import receiver


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


async def test_a_redrive_in_a_terminal_goes_on_with_the_trace_of_the_post(crossfade, places):
    """What PostgreSQL refused, redriven by another process: one trace, one correlation id."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with receiver("http/protobuf") as collector:
        settings = {
            **places,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "STREAM_MAX_RETRIES": "1",
        }
        running = await crossfade("serve", **settings)
        url = (await running.says(r'"url":"(http://[^"]+)"'))[1]
        await running.says("Worker started for partition 15")
        database = await asyncpg.connect(places["DATABASE_URL"])
        await database.execute("ALTER TABLE messages ADD CONSTRAINT hurt CHECK (sender_id = '?')")
        async with httpx.AsyncClient(base_url=url) as client:
            headers = JSON | {
                "traceparent": f"00-{trace}-{span}-01",
                "X-Correlation-ID": "order:42",
            }
            ack = (await client.post("/api/messages", content=BODY, headers=headers)).json()

            async def becomes(state: str) -> bool:
                view = (await client.get(f"/api/messages/{ack['messageId']}")).json()
                return view["state"] == state

            await eventually(lambda: becomes("dead_lettered"))
            await database.execute("ALTER TABLE messages DROP CONSTRAINT hurt")
            command = await crossfade("dlq", "redrive", "--message", ack["messageId"], **settings)
            assert await command.ends() == 0, command.text
            await eventually(lambda: becomes("persisted"))
        row = await database.fetchrow("SELECT trace_id, correlation_id FROM messages")
        await database.close()
        await eventually(lambda: sum(s.name == "ack msg:stream" for s in collector.of(trace)) == 2)
        assert await running.terminate() == 0
        spans = collector.of(trace)  # spans that ended after that one may come in a later export
    assert tuple(row) == (trace, "order:42")
    assert {s.attributes["messaging.message.conversation_id"] for s in spans} == {"order:42"}
    (create,) = [span for span in spans if span.name == "create msg:stream"]
    first, again = [span for span in spans if span.name == "send msg:stream"]
    (letter,) = [span for span in spans if span.name == "send msg:dlq"]
    for span in (first, letter, again):
        assert (trace, create.span_id) in span.links
    assert again.parent_id == create.span_id
    assert again.attributes["crossfade.redrives"] == "1"
    assert again.resource["process.pid"] != first.resource["process.pid"]
    # Before these, it may have been handed over in memory and refused: that has no outcome.
    processed = [s.attributes for s in spans if s.name == "process msg:stream"]
    ends = [about["crossfade.outcome"] for about in processed if "crossfade.outcome" in about]
    assert ends == ["dead_lettered", "persisted"]


async def test_a_collector_that_does_not_answer_is_not_felt(crossfade, places):
    """A black hole: connections are taken, and nothing ever comes back."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = await crossfade(
            "serve",
            **places,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="600",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BSP_MAX_QUEUE_SIZE="64",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32",
        )
        url = (await running.says(r'"url":"(http://[^"]+)"'))[1]
        metrics = (await running.says(r'"metrics":"(http://[^"]+)"'))[1]
        await running.says("Worker started for partition 15")
        body = json.loads(BODY)
        async with httpx.AsyncClient(base_url=url, timeout=None) as client:
            for number in range(100):
                answer = await client.post(
                    "/api/messages", json=body | {"clientMessageId": f"m{number}"}
                )
                assert answer.status_code == 202
            page = (await client.get(metrics)).text
        dropped = re.search(r'trace_spans_dropped_total\{reason="queue_full"\} (\S+)', page)
        assert float(dropped[1]) > 0
        ending = asyncio.create_task(running.terminate())
        assert await asyncio.wait_for(ending, 15) == 0
