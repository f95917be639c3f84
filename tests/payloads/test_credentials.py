"""Credentials that no setting names: those of the machine's or the container's role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from persistence.payloads.errors import PayloadOutage
from tests.payloads.stores import opened
from transport.message.payload import Payload

_ROLE = "payloads"


@asynccontextmanager
async def giving(answers: dict[str, str]) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve texts by path, as a machine's metadata; yield its address and the paths asked for."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                asked.append(path)
                body = answers.get(path, "").encode()
                status = b"200 OK" if body else b"404 Not Found"
                lines = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
                writer.write(lines + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def role(settings: dict[str, str], *, secret: str | None = None) -> str:
    """Return a role's credentials as its machine is told them."""
    return json.dumps(
        {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": "2026-11-27T00:00:00Z",
            "AccessKeyId": settings["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": secret or settings["AWS_SECRET_ACCESS_KEY"],
            "Token": "",
            "Expiration": "2099-01-01T00:00:00Z",
        }
    )


@pytest.fixture
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def without_key(settings: dict[str, str]) -> dict[str, str]:
    left = {name.lower(): value for name, value in settings.items() if name.startswith("PAYLOAD")}
    return left | {"address": left.pop("payload_store")}


@pytest.mark.usefixtures("without_keys")
async def test_a_machine_has_its_role(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = "/latest/meta-data/iam/security-credentials/"
    answers = {"/latest/api/token": "token", roles: _ROLE, roles + _ROLE: role(s3_settings)}
    async with giving(answers) as (address, asked):
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", address)
        store = opened(**without_key(s3_settings), payload_timeout_ms=30_000)
        await store.put("a/1", b"content")
        assert await store.get("a/1", 7) == b"content"
    assert asked == list(answers)  # once for all requests


@pytest.mark.usefixtures("without_keys")
async def test_a_container_has_its_role(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("token")
    async with giving({"/credentials": role(s3_settings)}) as (address, asked):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        store = opened(**without_key(s3_settings), payload_timeout_ms=30_000)
        await store.put("a/1", b"content")
        assert await store.get("a/1", 7) == b"content"
    assert asked == ["/credentials"]


@pytest.mark.usefixtures("without_keys")
async def test_a_role_that_may_not_and_no_role_at_all_are_outages(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = "/latest/meta-data/iam/security-credentials/"
    answers = {"/latest/api/token": "token", roles: _ROLE}
    for given, told in (
        ({roles + _ROLE: role(s3_settings, secret="another")}, "check its credentials"),
        ({}, "AWS_ACCESS_KEY_ID"),
    ):
        async with giving(answers | given) as (address, _):
            monkeypatch.setenv("AWS_METADATA_ENDPOINT", address)
            store = opened(**without_key(s3_settings), payload_timeout_ms=30_000)
            with pytest.raises(PayloadOutage, match=told):
                await store.put("a/1", b"content")


@pytest.mark.usefixtures("without_keys")
async def test_a_role_whose_credentials_were_revoked_is_asked_again(
    s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client keeps them until they expire, which is hours later."""
    roles = "/latest/meta-data/iam/security-credentials/"
    answers = {"/latest/api/token": "token", roles: _ROLE}
    answers[roles + _ROLE] = role(s3_settings, secret="revoked")
    async with giving(answers) as (address, asked):
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", address)
        store = opened(**without_key(s3_settings), payload_timeout_ms=30_000)
        with pytest.raises(PayloadOutage, match="check its credentials"):
            await store.put("a/1", b"content")
        once = len(asked)
        answers[roles + _ROLE] = role(s3_settings)
        await store.put("a/1", b"content")
        (content,) = await store.get_several(
            [Payload("a/1", 7, sha256(b"content").hexdigest(), "")]
        )
        assert content == b"content"
        assert len(asked) == 2 * once
