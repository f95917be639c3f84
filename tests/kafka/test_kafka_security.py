"""Listeners that demand a password, TLS or both; and being told why one refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_security import Security
from transport.conformance.envelopes import contents, message
from transport.contract import WORKER_GROUP, Appended, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.kafka import KafkaTransport

_PASSWORD = Security.with_password("SASL_PLAINTEXT", "PLAIN")
_BOTH = Security.with_password("SASL_SSL", "SCRAM-SHA-512")
_TLS = Security("SSL")


def _listeners(*demands: Security) -> pytest.MarkDecorator:
    """Run the test on a listener of each kind; tests of the same kind share it."""
    names = [f"{demand.protocol}-{demand.mechanism}" for demand in demands]
    return pytest.mark.parametrize("strict", demands, indirect=True, ids=names, scope="module")


@pytest_asyncio.fixture(scope="module")
async def strict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[KafkaServer]:
    async with run_kafka(tmp_path_factory.mktemp("strict"), security=request.param) as server:
        yield server


def _given(server: KafkaServer, **changes: Any) -> dict[str, Any]:
    security = server.security
    given: dict[str, Any] = {"kafka_security_protocol": security.protocol}
    if security.protocol.startswith("SASL"):
        given |= {
            "kafka_sasl_mechanism": security.mechanism,
            "kafka_sasl_username": security.username,
            "kafka_sasl_password": security.password,
        }
    if security.protocol.endswith("SSL"):
        given["kafka_ssl_cafile"] = str(security.authority(server.data_dir))
    return given | changes


@_listeners(_PASSWORD, _BOTH, _TLS)
async def test_a_strict_listener_lets_us_in_with_what_it_demands(strict: KafkaServer) -> None:
    settings = fresh_settings(strict.bootstrap, **_given(strict))
    async with KafkaTransport(settings) as transport:
        (outcome,) = await transport.publish([message("secret", partition=0, of=transport)])
        assert isinstance(outcome, Appended)
        (record,) = await first_records(transport, 1)
        assert contents([record]) == ["secret"]
        await transport.publish_positions(Topic.MESSAGES, {0: record.offset}, group=WORKER_GROUP)


@_listeners(_PASSWORD, _BOTH)
async def test_a_wrong_password_is_named_and_not_printed(strict: KafkaServer) -> None:
    settings = fresh_settings(strict.bootstrap, **_given(strict, kafka_sasl_password="hunter2"))
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_PASSWORD") as refused:
        async with KafkaTransport(settings):
            pass
    assert "hunter2" not in str(refused.value)


@_listeners(_PASSWORD, _BOTH)
async def test_each_connection_gets_the_password_that_the_file_has(
    strict: KafkaServer, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(f"{strict.security.password}\n")
    given = _given(strict, kafka_sasl_password=None, kafka_sasl_password_file=str(password))
    settings = fresh_settings(strict.bootstrap, kafka_timeout_ms=1000, **given)
    async with KafkaTransport(settings) as transport:

        async def appends() -> bool:
            (outcome,) = await transport.publish([message("x", partition=0, of=transport)])
            return isinstance(outcome, Appended)

        assert await appends()
        password.write_text("hunter2")
        assert await appends(), "an open connection stays"
        await strict.restart()

        async def is_refused() -> bool:
            with pytest.raises((ConfigurationError, TransportUnavailable)) as told:
                await transport.ping()
            return "KAFKA_SASL_PASSWORD" in str(told.value)

        await eventually(is_refused)
        password.unlink()

        async def names_the_file() -> bool:
            with pytest.raises((ConfigurationError, TransportUnavailable)) as told:
                await transport.ping()
            return str(password) in str(told.value)

        await eventually(names_the_file)
        password.write_text(str(strict.security.password))
        await eventually(appends)


@_listeners(_BOTH, _TLS)
async def test_a_certificate_that_nobody_vouches_for_is_refused(strict: KafkaServer) -> None:
    settings = fresh_settings(strict.bootstrap, **_given(strict, kafka_ssl_cafile=None))
    with pytest.raises(ConfigurationError, match="KAFKA_SSL_CAFILE"):
        async with KafkaTransport(settings):
            pass


@_listeners(_PASSWORD, _BOTH, _TLS)
async def test_the_wrong_protocol_is_told_with_its_setting(strict: KafkaServer) -> None:
    settings = fresh_settings(strict.bootstrap, kafka_timeout_ms=1000)
    with pytest.raises((ConfigurationError, TransportUnavailable), match="KAFKA_SECURITY_PROTOCOL"):
        async with KafkaTransport(settings):
            pass


@_listeners(_BOTH, _TLS)
async def test_each_brokers_certificate_is_known_with_its_end(strict: KafkaServer) -> None:
    log = KafkaTransport(fresh_settings(strict.bootstrap, **_given(strict)))
    facts = await log.server_facts()
    assert {each.whose for each in facts.certificates} <= {"localhost", "127.0.0.1"}
    ends = [each.ends - datetime.now(UTC) for each in facts.certificates]
    assert [end.days for end in ends] == [3649] * len(ends) != []
