"""TLS: the server's certificate is checked, and against whom the standard variables say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from redis.crc import key_slot

from compose.local.valkey import ValkeyServer
from tests.support.certificates import Certificate, self_signed
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.support.tls_proxy import tls_in_front_of
from tests.transport.redis_backend import short_settings
from tests.transport.settler import settle
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, Remembered, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis import RedisTransport
from transport.settings import TransportSettings


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
    async with RedisTransport.from_settings(settings) as transport:
        await transport.publish([message("secret", partition=0, of=transport)])
        assert contents(await settle(transport, 1)) == ["secret"]


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


async def test_a_cluster_is_used_over_tls_wherever_a_slot_is_moved(
    tmp_path: Path, certificate: Certificate
) -> None:
    """Of a slot that was moved the server names an address, and this is spoken to over TLS too."""
    # No replicas: they would go to the addresses that are announced.
    cluster = RedisCluster(tmp_path)
    await cluster.start()
    try:
        async with _over_tls(cluster, certificate) as addresses:
            settings = short_settings(
                None,
                redis_url=f"rediss://{addresses}/0",
                redis_tls_ca_file=str(certificate.certificate),
            )
            async with RedisTransport.from_settings(settings) as transport:
                await _appended(transport, "first")
                source = await cluster.primary_of("msg:stream:0")
                to = next(it for it in cluster.servers if it is not source)
                await cluster.move(key_slot(b"msg:stream:0"), to)
                await _appended(transport, "second")
                for partition in range(transport.partitions):
                    records = await transport.read(Topic.MESSAGES, partition)
                    assert contents(records) == ["first", "second"]
    finally:
        await cluster.stop()


@asynccontextmanager
async def _over_tls(cluster: RedisCluster, certificate: Certificate) -> AsyncIterator[str]:
    """Have each server announce a port that speaks TLS; yield their addresses."""
    async with AsyncExitStack() as stack:
        ports = []
        for server in cluster.servers:
            proxy = tls_in_front_of(server.host, server.port, certificate)
            ports.append(await stack.enter_async_context(proxy))
            await cluster.run(server, "CONFIG", "SET", "cluster-announce-port", ports[-1])

        async def announced() -> bool:
            told = [await cluster.run(it, "CLUSTER", "SLOTS") for it in cluster.servers]
            return all({it[2][1] for it in slots} == set(ports) for slots in told)

        await eventually(announced)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)


async def _appended(transport: RedisTransport, text: str) -> None:
    some = [message(text, partition=n, of=transport) for n in range(transport.partitions)]

    async def all_are() -> bool:
        outcomes = await transport.publish(some)
        return all(isinstance(outcome, Appended | Remembered) for outcome in outcomes)

    await eventually(all_are)


async def test_plain_text_to_a_tls_port_is_an_outage_that_names_the_setting(tls_port: int) -> None:
    with pytest.raises(TransportUnavailable, match="set REDIS_TLS=true"):
        async with RedisTransport.from_settings(short_settings(None, redis_port=tls_port)):
            pass


@pytest.mark.parametrize("ends_it", [False, True])
async def test_tls_to_a_port_of_plain_text_is_an_outage_that_names_the_setting(
    new_redis: Callable[..., Awaitable[ValkeyServer]], ends_it: bool
) -> None:
    """A server with a ``timeout`` ends the connection before we do."""
    server = await new_redis(timeout="1" if ends_it else "0")
    settings = short_settings(None, redis_port=server.port, redis_tls=True)
    with pytest.raises(TransportUnavailable, match=r"over TLS; .* set REDIS_TLS=false"):
        async with RedisTransport.from_settings(settings):
            pass
