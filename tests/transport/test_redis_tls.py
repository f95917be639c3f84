"""TLS: the server's certificate is checked, and against whom the standard variables say."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.ports import free_port
from compose.local.process import ServerError
from compose.local.valkey import ValkeyServer
from tests.support.absent import program
from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, contents, drain, message
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport

PATIENCE = 10.0


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    program("openssl", package="openssl")
    return _certificate(tmp_path_factory.mktemp("certificate"))


@pytest_asyncio.fixture
async def tls_port(
    own_redis: ValkeyServer, certificate: tuple[Path, Path], tmp_path: Path
) -> AsyncIterator[int]:
    port = free_port()
    server = ValkeyServer(
        tmp_path / "data",
        binary=own_redis.binary,
        config={
            "tls-port": str(port),
            "tls-cert-file": str(certificate[0]),
            "tls-key-file": str(certificate[1]),
            "tls-auth-clients": "no",
        },
    )
    try:
        await server.start()
    except ServerError as error:
        if "tls" in str(error).lower():
            pytest.skip(f"{own_redis.binary.label} was built without TLS")
        raise
    yield port
    await server.stop()


async def test_everything_works_over_tls(
    tls_port: int, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    settings = short_settings(None, redis_port=tls_port, redis_tls=True)
    async with RedisTransport.from_settings(settings) as transport, Member(transport) as member:
        await transport.publish([message("secret", partition=0, of=transport)])
        claim = await member.claim(0)
        assert contents(await drain(claim, 1, patience=PATIENCE)) == ["secret"]


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    settings = short_settings(None, redis_port=tls_port, redis_tls=True)
    with pytest.raises(TransportUnavailable, match="certificate"):
        async with RedisTransport.from_settings(settings):
            pass


async def test_plain_text_to_a_tls_port_is_an_outage(tls_port: int) -> None:
    with pytest.raises(TransportUnavailable):
        async with RedisTransport.from_settings(short_settings(None, redis_port=tls_port)):
            pass
