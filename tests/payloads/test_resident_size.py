"""100 MiB of content pass through a process that stays as small as it is."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

_PIECE = os.urandom(256 * 1024)
_MOST_MORE = 40 * 2**20
"""Two parts of 5 MiB on their way, one being filled, copies of them, and what the kernel sends."""


async def _form(name: str, size: int) -> AsyncIterator[bytes]:
    about = {"conversationId": "c", "senderId": "s", "clientMessageId": name}
    yield (
        '--b\r\nContent-Disposition: form-data; name="message"\r\n\r\n'
        f'{json.dumps(about)}\r\n--b\r\nContent-Disposition: form-data; name="content"\r\n\r\n'
    ).encode()
    for _ in range(size // len(_PIECE)):
        yield _PIECE
    yield b"\r\n--b--\r\n"


def _resident(pid: int) -> int:
    """The most that the process ever had in memory, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.fixture(params=["folder", "S3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "folder":
        return {"PAYLOAD_STORE": f"file://{tmp_path}/payloads"}
    settings: dict[str, str] = request.getfixturevalue("s3_settings")
    return settings | {"PAYLOAD_TIMEOUT_MS": "30000"}


async def test_a_post_of_100_mib_is_not_held(
    database_url: str, tmp_path: Path, store: dict[str, str]
) -> None:
    """Neither by the ingress, nor by the worker that looks for it, nor for a reader."""
    service = ForkedService(
        "serve",
        "serve",
        tmp_path,
        {
            "TRANSPORT": "memory",
            "DATABASE_URL": database_url,
            **store,
        },
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    async def post(client: httpx.AsyncClient, name: str, size: int) -> str:
        content = _form(name, size)
        answer = await client.post("/api/messages", content=content, headers=headers)
        assert answer.status_code == 202, answer.text
        identifier: str = answer.json()["messageId"]

        async def persisted() -> bool:
            return (await client.get(f"/api/messages/{identifier}")).json()["state"] == "persisted"

        await eventually(persisted)
        return identifier

    try:
        await service.start()
        assert service.pid is not None
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            await post(client, "warm", 2 * 2**20)
            before = _resident(service.pid)
            identifier = await post(client, "large", 100 * 2**20)
            assert _resident(service.pid) - before < _MOST_MORE
            async with client.stream("GET", f"/api/messages/{identifier}/content") as answer:
                pieces = [hash(piece) async for piece in answer.aiter_bytes(len(_PIECE))]
            assert pieces == [hash(_PIECE)] * (100 * 2**20 // len(_PIECE))
            assert _resident(service.pid) - before < _MOST_MORE
    finally:
        await service.stop()
