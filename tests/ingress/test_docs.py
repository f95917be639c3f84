"""The pages for people: documentation and problem types."""

from __future__ import annotations

import re

import pytest

from ingress.problems import kinds
from tests.ingress.conftest import Service


async def test_the_documentation_needs_no_other_server(service: Service) -> None:
    page = await service.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert "//" not in address
        assert (await service.client.get(f"/{address}")).status_code == 200
    for name in ("style.css", "script.js"):
        assert "://" not in (await service.client.get(f"/docs/{name}")).text


async def test_the_documentation_shows_every_operation(service: Service) -> None:
    page = (await service.client.get("/docs")).text
    document = (await service.client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
        assert f"<code>{path}</code>" in page
    assert "Hello, Phase 3!" in page


@pytest.mark.parametrize("kind", kinds().values(), ids=kinds())
async def test_every_problem_type_can_be_looked_up(service: Service, kind) -> None:
    answer = await service.client.get(kind.uri)
    assert answer.json() == {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "remedy": kind.remedy,
    }
    listed = (await service.client.get("/problems")).json()["items"]
    assert answer.json() in listed
