"""The checker reads a log that does not answer for a while, and says so if it never does."""

from __future__ import annotations

import asyncio

import pytest

from lab.rehearsal.logs import read_log
from transport.conformance.envelopes import message
from transport.errors import TransportError
from transport.registry import create
from transport.settings import TransportSettings


async def test_a_log_that_answers_late_is_read_whole(new_redis):
    server = await new_redis()
    settings = TransportSettings(
        redis_host=server.host, redis_port=server.port, redis_timeout_ms=200
    )
    async with create("redis", settings) as transport:
        await transport.publish(
            [message(f"m{n}", partition=n % 4, of=transport) for n in range(20)]
        )
        await server.suspend()
        try:
            with pytest.raises(TransportError):
                await read_log(transport, patience=0.0)
            reading = asyncio.create_task(read_log(transport))
            await asyncio.wait([reading], timeout=1.0)  # longer than one read may take
            assert not reading.done()
        finally:
            await server.resume()
        assert sum(map(len, (await reading).values())) == 20
