"""Stores in a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from persistence.payloads.store import PayloadStore
from tests.payloads.stores import opened


@pytest.fixture
def on_s3(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PayloadStore]:
    """Open the store that variables name, as a process does that has them."""

    def store(settings: dict[str, str], *, prefix: str = "", **more: Any) -> PayloadStore:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, settings[name])
        # The first object sets up the server's volumes, in some seconds.
        values = {
            "payload_endpoint_url": settings["PAYLOAD_ENDPOINT_URL"],
            "payload_region": settings["PAYLOAD_REGION"],
            "payload_timeout_ms": 30_000,
        }
        return opened(settings["PAYLOAD_STORE"] + prefix, **(values | more))

    return store
