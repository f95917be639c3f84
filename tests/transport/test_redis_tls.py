"""TLS: the server's certificate is checked, and against whom the standard variables say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.valkey import ValkeyServer
from tests.support.certificates import Certificate, self_signed
from tests.support.tls_proxy import tls_in_front_of
from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, contents, drain, message
from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis import RedisTransport
from transport.settings import TransportSettings

PATIENCE = 10.0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The server's."""
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One that a server may ask for."""
    return self_signed(tmp_path_factory.mktemp("certificate"), "client")


@pytest_asyncio.fixture
async def tls_port(own_redis: ValkeyServer, certificate: Certificate) -> AsyncIterator[int]:
    """By a proxy: the wheel's server is built without TLS."""
    async with tls_in_front_of(own_redis.host, own_redis.port, certificate) as port:
        yield port


@pytest_asyncio.fixture
async def careful_port(
    own_redis: ValkeyServer, certificate: Certificate, client_certificate: Certificate
) -> AsyncIterator[int]:
    """The same, for clients that prove who they are."""
    async with tls_in_front_of(
        own_redis.host, own_redis.port, certificate, client_certificate
    ) as port:
        yield port


async def _works(settings: TransportSettings) -> None:
    async with RedisTransport.from_settings(settings) as transport, Member(transport) as member:
        await transport.publish([message("secret", partition=0, of=transport)])
        claim = await member.claim(0)
        assert contents(await drain(claim, 1, patience=PATIENCE)) == ["secret"]


async def test_everything_works_over_tls(
    tls_port: int, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    await _works(short_settings(None, redis_port=tls_port, redis_tls=True))


async def test_the_authority_may_be_in_a_file_and_the_address_a_url(
    tls_port: int, certificate: Certificate
) -> None:
    url, file = f"rediss://localhost:{tls_port}/1", str(certificate.certificate)
    await _works(short_settings(None, redis_url=url, redis_tls_ca_file=file))


async def test_a_client_shows_its_certificate_where_it_is_asked_for(
    careful_port: int, certificate: Certificate, client_certificate: Certificate
) -> None:
    trusting = short_settings(
        None,
        redis_port=careful_port,
        redis_tls=True,
        redis_tls_ca_file=str(certificate.certificate),
    )
    with pytest.raises(TransportUnavailable):
        await _works(trusting)
    files = {
        "redis_tls_cert_file": str(client_certificate.certificate),
        "redis_tls_key_file": str(client_certificate.key),
    }
    await _works(trusting.model_copy(update=files))


@pytest.mark.parametrize(
    ("field", "also"),
    [
        ("redis_tls_ca_file", {}),
        ("redis_tls_cert_file", {}),
        ("redis_tls_key_file", {"redis_tls_cert_file": "itself"}),
    ],
)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_that_can_not_be_used_names_its_setting(
    tmp_path: Path, certificate: Certificate, field: str, also: dict[str, str], is_there: bool
) -> None:
    file = tmp_path / "file.pem"
    if is_there:
        file.write_text("no PEM file")
    also = dict.fromkeys(also, str(certificate.certificate))
    settings = short_settings(None, redis_tls=True, **{field: str(file)}, **also)
    with pytest.raises(ConfigurationError, match=f"{field.upper()}=.*can't be used"):
        RedisTransport.from_settings(settings)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    settings = short_settings(None, redis_port=tls_port, redis_tls=True)
    with pytest.raises(TransportUnavailable, match="certificate"):
        async with RedisTransport.from_settings(settings):
            pass


async def test_plain_text_to_a_tls_port_is_an_outage(tls_port: int) -> None:
    with pytest.raises(TransportUnavailable):
        async with RedisTransport.from_settings(short_settings(None, redis_port=tls_port)):
            pass
