"""Messages with large content: every way to send one, the stores for it, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest

from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, message
from tests.payloads.stores import folder_of, opened
from tests.support.fault_proxy import FaultProxy
from transport.contract import Record, Topic
from transport.message.dead_letters import dead_letter_of

__all__ = [
    "LARGE",
    "Send",
    "as_batch",
    "as_form",
    "as_json",
    "failed_attempts",
    "has_rows",
    "large",
    "letters",
    "logged",
    "objects",
    "store_behind",
]

LARGE = "large content, " * 400
"""6,000 bytes: more than PAYLOAD_THRESHOLD_BYTES, and less than PAYLOAD_ROW_BYTES."""

Send = Callable[[Service, str], Awaitable[httpx.Response]]
"""Sends a message with this content, always under the same key."""


def large(number: int = 1, content: str = LARGE, **changes: Any) -> dict[str, Any]:
    """Return the body of a message with large content."""
    return message(number, content=content, **changes)


async def as_json(service: Service, content: str) -> httpx.Response:
    """Send one message."""
    return await service.post(message(1, content=content))


async def as_batch(service: Service, content: str) -> httpx.Response:
    """Send a batch of one; return its result as an answer."""
    body = message(1, content=content)
    answer = await service.client.post("/api/messages:batch", json=[body])
    (result,) = answer.json()
    return httpx.Response(result["status"], json=result)


async def as_form(service: Service, content: str) -> httpx.Response:
    """Send a form."""
    described = {name: value for name, value in message(1).items() if name != "content"}
    files: Any = [
        ("message", (None, json.dumps(described), "application/json")),
        ("content", (None, content, "text/plain")),
    ]
    return await service.client.post("/api/messages", files=files)


async def logged(service: Service) -> list[Record]:
    """Every record, partition by partition."""
    partitions = range(service.transport.partitions)
    return [
        record for p in partitions for record in await service.transport.read(Topic.MESSAGES, p)
    ]


async def letters(service: Service) -> list[Any]:
    """Return the dead letters in the log."""
    return [dead_letter_of(r) for r in await service.transport.read(Topic.DEAD_LETTERS, 0)]


def objects(store: PayloadStore) -> list[str]:
    """Return the keys of the objects in a store that is a folder."""
    root = folder_of(store)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*/*") if path.is_file())


async def has_rows(service: Service, count: int) -> bool:
    """Return whether there are so many rows."""
    return len(await service.rows()) == count


async def failed_attempts(service: Service) -> float:
    """Return how often a worker failed to persist a record."""
    registry = service.metrics.registry
    return registry.get_sample_value("stream_consumer_processed_total", {"status": "error"}) or 0


def store_behind(
    proxy: FaultProxy, s3_settings: Mapping[str, str], *, secret: str = "", **settings: Any
) -> PayloadStore:
    """Return a store that reaches its S3 server by ``proxy``; ``secret`` is ours unless given."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", s3_settings["AWS_ACCESS_KEY_ID"])
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret or s3_settings["AWS_SECRET_ACCESS_KEY"])
        return opened(
            s3_settings["PAYLOAD_STORE"],
            payload_endpoint_url=f"http://{proxy.host}:{proxy.port}",
            payload_region=s3_settings["PAYLOAD_REGION"],
            **settings,
        )
