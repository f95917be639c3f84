"""A client that still sends its body when it is refused gets to read the answer."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest


@pytest.mark.parametrize(
    ("megabytes", "seconds"), [(60, 0.0), (8, 8.0)], ids=["far_too_large", "slow"]
)
async def test_a_client_that_reads_only_after_its_whole_body_gets_its_413(
    port: int, megabytes: int, seconds: float
) -> None:
    """The client is urllib, which reads no answer if it could not send its whole body."""

    def pieces() -> Iterator[bytes]:
        for _ in range(megabytes):
            yield b" " * 1_000_000
            time.sleep(seconds / megabytes)

    def send() -> int:
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(megabytes * 1_000_000),
        }
        url = f"http://127.0.0.1:{port}/api/messages"
        request = urllib.request.Request(url, pieces(), headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        with refused.value:
            return refused.value.code

    assert await asyncio.to_thread(send) == 413
