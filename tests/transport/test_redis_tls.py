"""TLS: the server's certificate is checked, and against whom the standard variables say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.ports import free_port
from compose.local.server import ServerError
from compose.local.valkey import ValkeyServer
from tests.support.certificates import Certificate, self_signed
from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, contents, drain, message
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport

PATIENCE = 10.0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest_asyncio.fixture
async def tls_port(
    own_redis: ValkeyServer, certificate: Certificate, tmp_path: Path
) -> AsyncIterator[int]:
    port = free_port()
    server = ValkeyServer(
        tmp_path / "data",
        binary=own_redis.binary,
        config={
            "tls-port": str(port),
            "tls-cert-file": str(certificate.certificate),
            "tls-key-file": str(certificate.key),
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
    tls_port: int, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
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
