"""The pages for people: documentation and problem types."""

from __future__ import annotations

import re

import pytest

from ingress.openapi import CONSOLE_PATH, PATH
from ingress.openapi.docs_page import page
from ingress.schema.problems import kinds
from tests.ingress.conftest import Service

DOCUMENTS = (PATH, CONSOLE_PATH)


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
    shown = (await service.client.get("/docs")).text
    places = []
    for name in DOCUMENTS:
        document = (await service.client.get(name)).json()
        for path, methods in document["paths"].items():
            places += [shown.index(f'id="{method["operationId"]}"') for method in methods.values()]
            assert f"<code>{path}</code>" in shown
    assert places == sorted(places)  # what producers need first, the console's routes last
    assert "Hello!" in shown


def test_a_description_is_text_wherever_it_stands() -> None:
    hostile = "</textarea><script>alert('&')</script>"
    content = {"text/plain": {"schema": {"enum": [hostile]}}}
    operation = {
        "tags": [hostile],
        "operationId": hostile,
        "summary": hostile,
        "description": hostile,
        "parameters": [{"name": hostile, "in": "query", "schema": {"type": hostile}}],
        "requestBody": {"content": content},
        "responses": {"200": {"description": hostile, "content": content}},
    }
    document = {
        "info": {"title": hostile, "description": hostile, "version": hostile},
        "tags": [{"name": hostile, "description": hostile}],
        "paths": {hostile: {"post": operation}},
    }
    shown = page(document, document)
    assert shown.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(&#39;&amp;&#39;)" in shown


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


async def test_the_root_leads_to_console_and_documentation(service: Service) -> None:
    page = await service.client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r'href="([^"]+)"', page.text)
    assert {"console", "docs", "openapi.json"} <= set(links)
    found = await service.client.get("/", headers={"Accept": "application/json"})
    told = found.json()["links"]
    assert told["console"] == "/console"
    for path in [*told.values(), *(f"/{link}" for link in links)]:
        assert (await service.client.get(path)).status_code == 200
