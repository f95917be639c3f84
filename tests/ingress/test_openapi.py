"""The OpenAPI document is what is served."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from ingress.openapi import CONSOLE_PATH, PATH
from ingress.web.key_entries import Scope
from tests.ingress.conftest import Service, message
from transport.registry import create
from transport.settings import TransportSettings

HERE = Path(__file__).parent


@pytest.fixture
async def seeded(new_redis, launch):
    """An ingress with something to find in it, on one Redis (the document is the same on all)."""
    redis = await new_redis()
    settings = TransportSettings(redis_host=redis.host, redis_port=redis.port)
    async with create("redis", settings) as transport:
        service = await launch(transport=transport)
        for number in range(3):
            body = message(number, conversationId="seeded")
            assert (await service.post(body)).status_code == 202
        yield service


@pytest.mark.parametrize("path", [PATH, CONSOLE_PATH])
async def test_schemathesis_finds_no_5xx_and_no_contradiction(seeded: Service, path: str) -> None:
    """Every check it has, on every operation, with data that fits and data that does not.

    What each word of the document allows and forbids is sent whole, by its coverage phase. Of what
    it draws beside that a few are enough here: the seed is the same in each run, and so are they.
    """
    await _run(seeded, path, "--max-examples=5", "--seed=1")


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", [PATH, CONSOLE_PATH])
async def test_schemathesis_finds_nothing_with_other_data_each_time(
    seeded: Service, path: str
) -> None:
    await _run(seeded, path, "--max-examples=50")


async def _run(service: Service, path: str, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"http://127.0.0.1:{service.port}{path}",
        "--checks=all",
        *options,
        "--no-color",
        "--generation-database=none",
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    text = said.decode()
    assert process.returncode == 0, text
    document = (await service.client.get(path)).json()
    operations = sum(len(methods) for methods in document["paths"].values())
    assert f"Tested: {operations}" in text


async def test_the_document_describes_exactly_the_routes_there_are(service: Service) -> None:
    public, console = [
        {
            (method.upper(), path)
            for path, methods in (await service.client.get(name)).json()["paths"].items()
            for method in methods
        }
        for name in (PATH, CONSOLE_PATH)
    ]
    assert not public & console
    assert all(path.startswith("/api/console/") for _, path in console)
    assert public | console == {
        ("POST", "/api/messages"),
        ("POST", "/api/messages:batch"),
        ("GET", "/api/messages/{messageId}"),
        ("GET", "/api/messages/{messageId}/content"),
        ("GET", "/api/messages/{messageId}/receipts"),
        ("POST", "/api/messages/{messageId}/receipts"),
        ("GET", "/api/conversations/{conversationId}/messages"),
        ("GET", "/api/dead-letters"),
        ("GET", "/api/dead-letters/{deadLetterId}"),
        ("POST", "/api/dead-letters/discard"),
        ("POST", "/api/dead-letters/redrive"),
        ("GET", "/api/dead-letters/redrives"),
        ("GET", "/api/dead-letters/redrives/{redriveId}"),
        ("POST", "/api/dead-letters/redrives/{redriveId}/cancel"),
        ("POST", "/api/dead-letters/redrives/{redriveId}/resume"),
        ("GET", "/api/jobs"),
        ("GET", "/api/console/session"),
        ("POST", "/api/console/session"),
        ("DELETE", "/api/console/session"),
        ("GET", "/api/console/status"),
        ("GET", "/api/console/events"),
        ("GET", "/api/console/hour"),
        ("GET", "/api/console/tail/events"),
        ("GET", "/api/console/logs"),
        ("GET", "/api/console/logs/{log}/partitions/{partition}/records"),
        ("GET", "/api/console/search"),
        ("GET", "/api/console/messages"),
        ("POST", "/api/console/messages"),
        ("GET", "/api/console/messages/{messageId}"),
        ("GET", "/api/console/dead-letters"),
        ("GET", "/api/console/actions"),
        ("GET", "/api/console/migration"),
        ("GET", "/api/console/migration/gates"),
        ("POST", "/api/console/migration/steps"),
        ("POST", "/api/console/migration/complete"),
        ("POST", "/api/console/migration/cancel"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/problems"),
        ("GET", "/problems/{name}"),
    }


@pytest.mark.parametrize("path", [PATH, CONSOLE_PATH])
async def test_the_description_of_an_operation_with_a_body_names_fields_that_there_are(
    service: Service, path: str
) -> None:
    document = (await service.client.get(path)).json()
    unknown = {
        (operation["operationId"], name)
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
        for name in set(re.findall("`([a-z][A-Za-z]*)`", operation["description"])) - set(Scope)
        if f"'{name}'" not in _with_schemas(operation, document)
    }
    assert not unknown


def _with_schemas(operation: dict, document: dict) -> str:
    """Return an operation, and every schema that it refers to, as text."""
    text, reached = str(operation), set[str]()
    while new := set(re.findall(r"#/components/schemas/(\w+)", text)) - reached:
        reached |= new
        text += "".join(str(document["components"]["schemas"][name]) for name in new)
    return text


@pytest.mark.parametrize("path", ["/api/messages", "/api/messages:batch"])
async def test_the_hot_path_is_described_as_it_is(start, path: str) -> None:
    service = await start(ingress_max_content_bytes=100, ingress_max_recipients=7)
    document = (await service.client.get("/openapi.json")).json()
    operation = document["paths"][path]["post"]
    success = {"200", "202"} if path == "/api/messages" else {"207"}
    refused = {"400", "403", "408", "413", "415", "421", "422", "503"}
    assert set(operation["responses"]) == success | refused
    for status, response in operation["responses"].items():
        assert "X-Correlation-ID" in response["headers"]
        assert ("Retry-After" in response["headers"]) == (status in {"207", "503"})
    schema = document["components"]["schemas"]["MessageRequest"]
    assert schema["required"] == ["conversationId", "senderId", "content"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["content"]["maxLength"] == 100
    assert schema["properties"]["recipientIds"]["maxItems"] == 7
    text = str(document)
    assert "ProblemBody" not in text
    assert "HTTPValidationError" not in text
