"""A listener that asks clients for a certificate."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from tests.support.certificates import Certificate, issued_by, self_signed
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_security import Security
from tests.support.requirements import program
from transport.conformance.envelopes import messages
from transport.contract import Appended
from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


class _Demanding(NamedTuple):
    """A broker, and a certificate that it accepts."""

    server: KafkaServer
    client: Certificate

    def settings(self, **changes: Any) -> TransportSettings:
        given = {
            "kafka_security_protocol": "SSL",
            "kafka_ssl_cafile": str(self.server.security.authority(self.server.data_dir)),
            "kafka_ssl_certfile": str(self.client.certificate),
            "kafka_ssl_keyfile": str(self.client.key),
            "kafka_timeout_ms": 2000,
        }
        return fresh_settings(self.server.bootstrap, **given | changes)


@pytest_asyncio.fixture(scope="module")
async def demanding(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[_Demanding]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = self_signed(folder, "authority")
    listener = "listener.name.client.ssl"
    config = {
        f"{listener}.client.auth": "required",
        f"{listener}.truststore.type": "PEM",
        f"{listener}.truststore.location": str(authority.certificate),
    }
    async with run_kafka(folder / "broker", security=Security("SSL"), config=config) as server:
        yield _Demanding(server, issued_by(authority, folder, "crossfade"))


def _encrypted(key: Path, password: str) -> bytes:
    """Return a key that needs ``password``, in PEM."""
    openssl = program("openssl", package="openssl")
    return subprocess.run(
        [openssl, "pkcs8", "-topk8", "-in", str(key), "-passout", f"pass:{password}"],
        check=True,
        capture_output=True,
    ).stdout


async def _publishes(settings: TransportSettings) -> None:
    async with KafkaTransport(settings) as log:
        (outcome,) = await log.publish(messages(["a"], partition=0, of=log))
        assert isinstance(outcome, Appended)


async def test_our_certificate_lets_us_in(demanding: _Demanding) -> None:
    await _publishes(demanding.settings())


async def test_a_key_in_the_same_file_may_be_encrypted(
    demanding: _Demanding, tmp_path: Path
) -> None:
    password = "a password"
    both = tmp_path / "both.pem"
    both.write_bytes(
        demanding.client.certificate.read_bytes() + _encrypted(demanding.client.key, password)
    )
    given = {"kafka_ssl_certfile": str(both), "kafka_ssl_keyfile": None}
    await _publishes(demanding.settings(**given, kafka_ssl_keyfile_password=password))
    for wrong in (None, "another"):
        settings = demanding.settings(**given, kafka_ssl_keyfile_password=wrong)
        with pytest.raises(ConfigurationError, match="KAFKA_SSL_KEYFILE_PASSWORD") as refused:
            KafkaTransport(settings)
        assert "another" not in str(refused.value)


@pytest.mark.parametrize("shown", [None, "self-signed"])
async def test_without_one_that_the_broker_trusts_we_are_told_which_setting(
    demanding: _Demanding, tmp_path: Path, shown: str | None
) -> None:
    certificate = self_signed(tmp_path, shown) if shown else None
    settings = demanding.settings(
        kafka_ssl_certfile=str(certificate.certificate) if certificate else None,
        kafka_ssl_keyfile=str(certificate.key) if certificate else None,
    )
    with pytest.raises((ConfigurationError, TransportUnavailable), match="KAFKA_SSL_CERTFILE"):
        async with KafkaTransport(settings):
            pass


@pytest.mark.parametrize("name", ["KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE"])
async def test_a_file_that_is_not_there_is_named(demanding: _Demanding, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}='nowhere.pem' can't be read"):
        KafkaTransport(demanding.settings(**{name.lower(): "nowhere.pem"}))
