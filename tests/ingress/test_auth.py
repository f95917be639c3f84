"""API keys: who may call what, and when they are needed."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingress.openapi import CONSOLE_PATH, PATH
from ingress.settings import IngressSettings
from ingress.web.auth import Authenticator
from ingress.web.key_entries import parse_entries
from tests.ingress.conftest import message
from tests.support.eventually import eventually
from transport.errors import ConfigurationError

DOCUMENTS = (PATH, CONSOLE_PATH)
ROUTES = [
    ("POST", "/api/messages", "produce"),
    ("POST", "/api/messages:batch", "produce"),
    ("POST", "/api/messages/00000000-0000-8000-8000-000000000001/receipts", "produce"),
    ("GET", "/api/messages/00000000-0000-8000-8000-000000000001/receipts", "read"),
    ("GET", "/api/messages/00000000-0000-8000-8000-000000000001", "read"),
    ("GET", "/api/conversations/c/messages", "read"),
    ("GET", "/api/dead-letters", "read+admin"),
    ("GET", "/api/dead-letters/1", "read"),
    ("POST", "/api/dead-letters/redrive", "admin"),
    ("POST", "/api/dead-letters/discard", "admin"),
    ("GET", "/api/dead-letters/redrives", "read+admin"),
    ("GET", "/api/jobs", "read"),
    ("GET", "/api/dead-letters/redrives/00000000-0000-8000-8000-000000000001", "read+admin"),
    ("POST", "/api/dead-letters/redrives/00000000-0000-8000-8000-000000000001/cancel", "admin"),
]
SCOPES = ("produce", "read", "admin")


def _key(scope: str) -> str:
    return f"cf_{scope}"


def _entry(scope: str) -> str:
    return f"{scope}-key:{scope}:{sha256(_key(scope).encode()).hexdigest()}"


@pytest.fixture
async def keyed(start):
    return await start(api_keys=",".join(_entry(scope) for scope in SCOPES))


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
async def test_every_route_needs_a_key_with_its_scope(
    keyed, method: str, path: str, needed: str
) -> None:
    body = {
        "/api/messages": message(),
        "/api/messages:batch": [message()],
        "/api/dead-letters/redrive": {"ids": [1], "dryRun": True},
        "/api/dead-letters/discard": {"ids": [1], "why": "x"},
    }.get(path, {"userId": "u", "state": "read"})
    content = {"json": body} if method == "POST" else {}
    scopes = needed.split("+")  # any of them
    without = await keyed.client.request(method, path, **content)
    assert (without.status_code, without.json()["type"]) == (401, "/problems/unauthenticated")
    assert without.headers["www-authenticate"] == "Bearer"
    wrong = await keyed.client.request(method, path, headers={"X-API-Key": "cf_x"}, **content)
    assert wrong.status_code == 401
    assert "cf_x" not in wrong.text
    for scope in SCOPES:
        for headers in ({"Authorization": f"Bearer {_key(scope)}"}, {"X-API-Key": _key(scope)}):
            answer = await keyed.client.request(method, path, headers=headers, **content)
            if scope in scopes:
                assert answer.status_code not in {401, 403}
            else:
                assert answer.status_code == 403
                assert scopes[0] in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/docs", *DOCUMENTS, "/problems"])
async def test_health_and_documentation_need_none(keyed, path: str) -> None:
    assert (await keyed.client.get(path)).status_code == 200


async def test_the_document_says_which_operations_need_a_key(keyed, start) -> None:
    documents = [(await keyed.client.get(path)).json() for path in DOCUMENTS]
    operations = [
        (path, operation)
        for document in documents
        for path, methods in document["paths"].items()
        for operation in methods.values()
    ]
    assert len([path for path, _ in operations if path.startswith("/api/")]) >= len(ROUTES)
    for path, operation in operations:
        if path == "/api/console/session":  # where a key is handed in
            assert "security" not in operation
            continue
        needs_key = path.startswith("/api/")
        assert ("security" in operation) is needs_key, path
        assert ({"401", "403"} <= set(operation["responses"])) is needs_key, path
    open_one = await start()
    document = (await open_one.client.get(PATH)).json()
    post = document["paths"]["/api/messages"]["post"]
    assert {} in post["security"]  # none is needed, and a client generated from it can hold one
    assert "401" not in post["responses"]


async def test_who_redrives_is_recorded_by_the_name_of_the_key(keyed) -> None:
    admin = {"X-API-Key": _key("admin")}
    answer = await keyed.client.post(
        "/api/dead-letters/redrive", json={"filter": {}}, headers=admin
    )
    redrive = (await keyed.client.get(answer.headers["location"], headers=admin)).json()
    assert redrive["startedBy"] == "api:admin-key"


async def test_the_keys_file_is_read_again_when_it_changes(start, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# for tests\n{_entry('produce')}\n")
    service = await start(api_keys_file=path)

    async def status(scope: str) -> int:
        return (await service.post(message(), X_API_Key=_key(scope))).status_code

    assert await status("produce") == 202
    assert await status("read") == 401
    path.write_text(f"{_entry('read')}\n")

    async def changed() -> bool:
        return await status("produce") == 401

    await eventually(changed)
    assert await status("read") == 403
    path.write_text("nonsense\n")  # a slip: what worked goes on working
    os.utime(path, ns=(1, 1))
    service.app.accept.auth.reload()
    assert await status("read") == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "10.0.0.1"])
def test_beyond_loopback_keys_are_needed_or_waived(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"API_KEYS.*API_KEYS_WAIVED=true"):
        IngressSettings(host=host)
    with pytest.raises(ValidationError, match="API_KEYS"):
        IngressSettings(host=host, api_keys=" ")
    assert IngressSettings(host=host, api_keys_waived=True)
    assert IngressSettings(host=host, api_keys=_entry("read"))
    empty = tmp_path / "keys"
    empty.write_text("# none yet\n")
    with pytest.raises(ConfigurationError, match="holds no key"):
        Authenticator(IngressSettings(host=host, api_keys_file=empty))


def test_a_file_of_keys_that_does_not_exist_is_told_with_the_command_that_makes_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys"
    with pytest.raises(ConfigurationError, match="`crossfade keys new NAME --file") as caught:
        Authenticator(IngressSettings(api_keys_file=file))
    assert f"API_KEYS_FILE={file} does not exist" in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_on_loopback_none_is_needed(host: str) -> None:
    assert not Authenticator(IngressSettings(host=host)).required


@pytest.mark.parametrize(
    "entry", ["cf_secret", "name:produce:abc", "name:root:" + "0" * 64, ":read:" + "0" * 64]
)
def test_a_faulty_entry_stops_the_start_without_repeating_it(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="API_KEYS: entry 2") as caught:
        parse_entries(f"{_entry('read')},{entry}", "API_KEYS")
    assert entry not in str(caught.value)


def test_no_secret_is_in_a_repr() -> None:
    settings = IngressSettings(api_keys=_entry("read"))
    digest = sha256(_key("read").encode()).hexdigest()
    assert digest not in repr(settings)
    assert digest not in json.dumps(settings.model_dump(mode="json"))
