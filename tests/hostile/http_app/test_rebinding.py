"""A page whose own name points at this machine gets nothing of a service without keys."""

from __future__ import annotations

import json
from hashlib import sha256

import httpx
import pytest

from ingress.openapi import CONSOLE_PATH, PATH
from tests.ingress.conftest import Service, Start, message

EVIL = {"Host": "evil.example:3000"}
IDENTIFIER = "00000000-0000-8000-8000-000000000001"
OPEN = {"/healthz", "/readyz"}
WHY = {"filter": {}, "why": "x"}
BODIES = {
    "/api/messages": message(),
    "/api/messages:batch": [message()],
    "/api/messages/{messageId}/receipts": {"userId": "u", "state": "read"},
    "/api/dead-letters/discard": WHY,
    "/api/dead-letters/redrive": WHY,
    "/api/console/session": {"key": "cf_x"},
}
UNLISTED = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/docs/script.js"),
    ("GET", PATH),
    ("GET", CONSOLE_PATH),
    ("GET", "/console"),
    ("GET", "/console/index.html"),
    ("GET", "/nothing"),
    ("OPTIONS", "/api/messages"),
    ("OPTIONS", "/api/messages:batch"),
    ("OPTIONS", "/api/dead-letters"),
    ("PUT", "/api/messages"),
]
WAIVED = {"host": "0.0.0.0", "api_keys_waived": True}


async def _routes(service: Service) -> list[tuple[str, str]]:
    documents = [(await service.client.get(path)).json() for path in (PATH, CONSOLE_PATH)]
    return [
        (method.upper(), path)
        for document in documents
        for path, methods in document["paths"].items()
        for method in methods
    ]


def _path(template: str) -> str:
    given = {
        "{messageId}": IDENTIFIER,
        "{redriveId}": IDENTIFIER,
        "{deadLetterId}": "1",
        "{conversationId}": "c",
        "{name}": "not-found",
        "{log}": "redis",
        "{partition}": "0",
        "/events": "/events?limit=1",
    }
    for name, value in given.items():
        template = template.replace(name, value)
    return template


async def _ask(service: Service, method: str, path: str, host: dict[str, str]) -> httpx.Response:
    body = BODIES.get(path, {})
    content = {"content": json.dumps(body)} if method == "POST" else {}
    headers = {"Content-Type": "application/json", **host}
    return await service.client.request(method, _path(path), headers=headers, **content)


@pytest.mark.parametrize("door", ["protocol", "asgi"])
@pytest.mark.parametrize("settings", [{}, WAIVED, WAIVED | {"ingress_allowed_hosts": "good.test"}])
async def test_every_route_asks_for_the_name(start: Start, settings: dict, door: str) -> None:
    service = await start(**settings)
    routes = [*await _routes(service), *UNLISTED]
    assert len(routes) > 30
    for method, path in routes:
        answer = await _ask(service, method, path, EVIL)
        if path in OPEN:
            assert answer.status_code == 200, path
            continue
        assert answer.status_code == 421, (method, path, answer.status_code)
        assert answer.json()["type"] == "/problems/misdirected"
        assert "INGRESS_ALLOWED_HOSTS" in answer.json()["detail"]
    assert await service.records() == 0


@pytest.mark.parametrize("door", ["protocol", "asgi"])
async def test_a_repeated_head_is_asked_for_its_name_each_time(start: Start, door: str) -> None:
    """Heads that came before are not parsed again; what follows from them is."""
    service = await start()
    for _ in range(3):
        assert (await service.post(message(), Host="evil.example")).status_code == 421
        assert (await service.post(message(), Host="localhost:1")).status_code in {200, 202}


async def test_names_that_the_operator_gave_are_served(start: Start) -> None:
    service = await start(**WAIVED, ingress_allowed_hosts="good.test,app")
    for host in ("good.test", "app:3000", "10.0.0.7:3000", "localhost:3000"):
        answer = await service.post(message(), Host=host)
        assert answer.status_code in {200, 202}, host
        read = f"/api/messages/{answer.json()['messageId']}"
        assert (await service.client.get(read, headers={"Host": host})).status_code == 200


async def test_with_keys_any_name_is_served_to_who_has_one(start: Start) -> None:
    key = f"k:produce+read:{sha256(b'cf_x').hexdigest()}"
    service = await start(api_keys=key)
    assert (await service.post(message(), **EVIL)).status_code == 401
    assert (await service.post(message(), **EVIL, X_API_Key="cf_x")).status_code == 202


@pytest.mark.parametrize("door", ["protocol", "asgi"])
@pytest.mark.parametrize(
    "site", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_another_sites_page_changes_nothing(start: Start, site: dict, door: str) -> None:
    service = await start()
    for method, path in await _routes(service):
        answer = await _ask(service, method, path, site)
        if method == "GET":
            assert answer.status_code not in {403, 421}, path
        else:
            assert answer.status_code == 403, (method, path)
            assert answer.json()["type"] == "/problems/foreign-page"
    assert await service.records() == 0
