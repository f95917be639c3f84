"""Passwords in files that are replaced: what the settings refuse, and what Redis gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from transport.conformance.envelopes import message
from transport.contract import Appended
from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.connection.rights import BETTER, LEAST
from transport.secret_file import SecretFile
from transport.settings import TransportSettings


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "is empty: it must hold a password"),
        (b"\r\n", "is empty: it must hold a password"),
        (b"hunter2\xff", "can't be read: it is no UTF-8"),
    ],
)
def test_a_file_without_a_password_is_named_with_its_setting(
    tmp_path: Path, held: bytes | None, why: str
) -> None:
    path = tmp_path / "password"
    if held is not None:
        path.write_bytes(held)
    with pytest.raises(ConfigurationError) as told:
        SecretFile(str(path), "REDIS_PASSWORD_FILE").read()
    assert str(told.value) == f"REDIS_PASSWORD_FILE={str(path)!r} {why}"
    for field in ("redis_password_file", "kafka_sasl_password_file"):
        with pytest.raises(ValidationError, match=f"{field.upper()}=.*{why}"):
            TransportSettings(**{field: str(path)})


def test_only_the_end_of_the_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b" pass\nword \r\n")
    assert SecretFile(str(tmp_path / "password"), "X").read() == " pass\nword "


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("redis_password_file", {"redis_password": "x"}),
        ("redis_password_file", {"redis_url": "redis://me:x@host/1"}),
        ("kafka_sasl_password_file", {"kafka_sasl_password": "x"}),
    ],
)
def test_a_password_is_given_once(tmp_path: Path, field: str, other: dict[str, str]) -> None:
    (tmp_path / "password").write_text("y")
    with pytest.raises(ValidationError, match=f"{field.upper()} .* leave one of them out"):
        TransportSettings(**{field: str(tmp_path / "password"), **other})


async def test_redis_gets_the_password_that_the_file_has_now(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    admin = Redis(host=own_redis.host, port=own_redis.port)

    async def is_now(secret: str) -> None:
        """Change the user's password, and end its connections."""
        rights = ("reset", "on", f">{secret}", *LEAST.split(), *BETTER.split())
        await admin.execute_command("ACL", "SETUSER", "rotating", *rights)
        await admin.execute_command("CLIENT", "KILL", "USER", "rotating")

    async def appends() -> bool:
        (outcome,) = await transport.publish([message("x", partition=0, of=transport)])
        return isinstance(outcome, Appended)

    try:
        await is_now("first")
        password.write_text("first\n")
        settings = short_settings(
            own_redis, redis_username="rotating", redis_password_file=str(password)
        )
        async with RedisTransport(settings) as transport:
            assert await appends()
            password.write_text("second\n")
            assert await appends(), "an open connection stays"
            await is_now("second")
            await eventually(appends)

            password.unlink()
            await is_now("third")

            async def names_the_file() -> bool:
                with pytest.raises(TransportUnavailable) as told:
                    await transport.ping()
                return str(password) in str(told.value)

            await eventually(names_the_file)
            password.write_text("third")
            await eventually(appends)
    finally:
        await admin.execute_command("ACL", "DELUSER", "rotating")
        await admin.aclose()
