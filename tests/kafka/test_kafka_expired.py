"""A broker whose certificate ends while we run: each answer names the reason and the remedy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from tests.support.certificates import Certificate, issued_by, self_signed
from tests.support.eventually import eventually
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_security import Security
from tests.support.requirements import program
from transport.conformance.envelopes import message
from transport.contract import Appended
from transport.errors import TransportUnavailable
from transport.kafka import KafkaTransport

_EXPIRED = "has expired: renew it on the server"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    async with run_kafka(tmp_path / "broker", security=Security("SSL")) as server:
        yield server


async def test_a_certificate_that_ends_is_named_until_it_is_renewed(
    server: KafkaServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = server.data_dir / "server.p12"
    authority = self_signed(tmp_path, "authority")
    trusted = tmp_path / "trusted.pem"
    generated = server.security.authority(server.data_dir)
    trusted.write_text(generated.read_text() + authority.certificate.read_text())
    settings = fresh_settings(
        server.bootstrap,
        kafka_security_protocol="SSL",
        kafka_ssl_cafile=str(trusted),
        kafka_timeout_ms=2000,
    )
    async with KafkaTransport(settings) as log:
        assert await _appends(log)
        valid = shutil.copy(store, tmp_path / "valid.p12")
        expired = issued_by(authority, tmp_path, "expired", days=0, local=True)
        await server.stop()
        _keep(expired, store)
        await server.start()

        async def is_named() -> bool:
            assert not await _appends(log)
            with pytest.raises(TransportUnavailable) as caught:
                await log.ping()
            assert _EXPIRED in str(caught.value)
            return True

        await eventually(is_named)
        # The node was down before it refused us.
        assert "A Kafka node can't be spoken to over TLS; will retry" in caplog.messages
        await server.stop()
        shutil.copy(valid, store)
        await server.start()

        async def is_well() -> bool:
            return await _appends(log)

        await eventually(is_well)
        await log.ping()


async def _appends(log: KafkaTransport) -> bool:
    (outcome,) = await log.publish([message("a", partition=0, of=log)])
    return isinstance(outcome, Appended)


def _keep(made: Certificate, store: Path) -> None:
    """Write a certificate to the broker's keystore, with the password that it has."""
    openssl = program("openssl", package="openssl")
    subprocess.run(
        [
            *(openssl, "pkcs12", "-export", "-name", "server", "-out", str(store)),
            *("-in", str(made.certificate), "-inkey", str(made.key)),
            *("-passout", f"file:{store.with_name('server.p12.password')}"),
        ],
        check=True,
        capture_output=True,
    )
