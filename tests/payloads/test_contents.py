"""Content for records, from stores that do not give it."""

from __future__ import annotations

import asyncio

import pytest

from otel.metrics import Metrics
from otel.tracing.deliveries import Delivery
from persistence.database.outage import Stopping
from persistence.worker.contents import Contents
from tests.payloads.stores import opened
from tests.persistence.samples import message, placed


async def test_a_store_that_hangs_holds_up_no_worker_that_is_to_stop() -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = opened(
        "s3://bucket/prefix",
        payload_endpoint_url=f"http://127.0.0.1:{port}",
        payload_region="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        payload_timeout_ms=60_000,
    )
    contents = Contents(store, Metrics(), attempts=3, longest=1.0)
    large = message(
        content="", payload_key=f"0/{'00' * 32}", payload_bytes=5, payload_fingerprint=""
    )
    stop = asyncio.Event()
    reading = asyncio.create_task(contents.of([placed(large)], lambda *_: None, Delivery(), stop))
    reading.add_done_callback(lambda _: asked.set())
    try:
        async with asyncio.timeout(20):
            await asked.wait()
            stop.set()
            with pytest.raises(Stopping):
                await reading
    finally:
        over.set()
        server.close()
        await server.wait_closed()
