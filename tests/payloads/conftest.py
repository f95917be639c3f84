"""Stores in a real S3 server, and in Azure's server for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from persistence.payloads.store import PayloadStore
from tests.payloads.stores import opened
from tests.support.azurite import AzuriteServer

_numbers = count(1)


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


@pytest_asyncio.fixture(scope="session")
async def _azurite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AzuriteServer]:
    async with AzuriteServer(tmp_path_factory.mktemp("azure") / "data") as server:
        yield server


@pytest.fixture
def azure_settings(_azurite: AzuriteServer) -> dict[str, str]:
    """Settings for payloads in Azure, under a prefix of the test's own."""
    return _azurite.settings(f"test-{next(_numbers)}")


@pytest.fixture
def on_azure(azure_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> PayloadStore:
    """Return a store in Azure, whose client has the provider's own variables."""
    address = azure_settings.pop("PAYLOAD_STORE")
    for name, value in azure_settings.items():
        monkeypatch.setenv(name, value)
    return opened(address)
