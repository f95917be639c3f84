"""Content for records, from stores that do not give it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256

import pytest

from otel.metrics import Metrics
from otel.tracing.deliveries import Delivery
from persistence.database.outage import Stopping
from persistence.payloads.store import PayloadStore
from persistence.worker.batch.contents import Contents
from tests.payloads.stores import opened
from tests.persistence.samples import message, placed
from transport.message.payload import Payload


def _store(server: asyncio.Server) -> PayloadStore:
    return opened(
        "s3://bucket/prefix",
        payload_endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        payload_region="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        payload_timeout_ms=60_000,
    )


async def test_a_store_that_hangs_holds_up_no_worker_that_is_to_stop() -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    store = _store(server)
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


async def test_one_that_is_refused_does_not_end_the_read_of_others() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/refused/" in head:
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                else:
                    await asyncio.sleep(0.2)  # it answers later than the refusal comes
                    writer.write(
                        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n"
                        b'Content-Range: bytes 0-0/1\r\nETag: "e"\r\n'
                        b"Last-Modified: Fri, 27 Nov 2026 03:00:00 GMT\r\n\r\nx"
                    )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = _store(server)
    digest = sha256(b"x").hexdigest()
    payloads = [Payload(f"{n}/{digest}", 1, digest, "") for n in range(20)]
    payloads.insert(7, Payload(f"refused/{digest}", 1, digest, ""))
    found = await store.get_several(payloads)
    assert [n for n, content in enumerate(found) if content is None] == [7]
    server.close()
