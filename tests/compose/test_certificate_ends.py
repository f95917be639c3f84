"""A process tells when the certificates of its servers and its own end, also after a renewal."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import InvalidVersion
from structlog.testing import capture_logs

from compose.process.certificate_ends import CertificateEnds
from compose.process.metrics import process_metrics
from otel.metrics import Metrics
from persistence.database.pool import connect, using
from persistence.settings import PersistenceSettings
from tests.support.certificates import Certificate, issued_by, redated, self_signed
from tests.support.postgres_tls import made_of, running
from tests.support.tls_proxy import tls_in_front_of
from transport.settings import TransportSettings

DAY = timedelta(days=1)
ENDS = "tls_certificate_expiry_timestamp_seconds"
OVERDUE = "tls_certificate_overdue_timestamp_seconds"


@pytest.fixture
def authority(tmp_path: Path) -> Certificate:
    return self_signed(tmp_path, "authority")


@pytest.fixture
def metrics() -> Metrics:
    return process_metrics()


def _told(metrics: Metrics, server: str, certificate: str, name: str = ENDS) -> datetime | None:
    labels = {"server": server, "certificate": certificate}
    found = metrics.registry.get_sample_value(name, labels)
    return None if found is None else datetime.fromtimestamp(found, UTC)


def _issued(authority: Certificate, folder: Path, name: str, *, left: timedelta) -> Certificate:
    """Return a certificate that has been used for 30 days."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = issued_by(authority, folder, name, local=True)
    return redated(made, authority, begins=now - 30 * DAY, ends=now + left)


@pytest.fixture
def warned() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


def _own(lines: Iterable[MutableMapping[str, Any]]) -> Iterator[MutableMapping[str, Any]]:
    """Leave out what timers of other tests log."""
    return (line for line in lines if "server" in line)


async def test_those_of_redis_are_told_and_one_that_ends_soon_is_logged_once(
    redis_settings,
    database_url: str,
    authority: Certificate,
    metrics: Metrics,
    tmp_path: Path,
    warned: list[MutableMapping[str, Any]],
) -> None:
    server = _issued(authority, tmp_path, "server", left=5 * DAY)
    ours = _issued(authority, tmp_path, "client", left=300 * DAY)
    address = redis_settings.redis_host, redis_settings.redis_port
    async with tls_in_front_of(*address, server, authority) as port:
        settings = TransportSettings(
            redis_url=f"rediss://localhost:{port}/{redis_settings.redis_stream_db}",
            redis_tls_ca_file=str(authority.certificate),
            redis_tls_cert_file=str(ours.certificate),
            redis_tls_key_file=str(ours.key),
        )
        database = PersistenceSettings(database_url=database_url)
        ends = CertificateEnds(["redis"], settings, database, metrics)
        await ends.report()
        theirs = _told(metrics, "redis", "localhost")
        own = _told(metrics, "redis", "REDIS_TLS_CERT_FILE")
        assert theirs is not None
        assert own is not None
        assert theirs < datetime.now(UTC) + 5 * DAY < own
        assert _told(metrics, "redis", "localhost", OVERDUE) == theirs - 35 * DAY / 4
        await ends.report()
        assert [line["certificate"] for line in _own(warned)] == ["localhost"]
    await ends.report()
    assert _told(metrics, "redis", "localhost") == theirs, "a silent server has the same as before"


async def test_that_of_postgresql_is_another_one_after_its_renewal(
    initialized_postgres: Path,
    redis_settings,
    authority: Certificate,
    metrics: Metrics,
    tmp_path: Path,
    warned: list[MutableMapping[str, Any]],
) -> None:
    former = _issued(authority, tmp_path, "server", left=5 * DAY)
    renewed = _issued(authority, tmp_path, "renewed", left=60 * DAY)
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", former)
    async with running(made) as postgres:
        address = f"{postgres.url_of('crossfade')}?sslmode=verify-full"
        database = PersistenceSettings(
            database_url=f"{address}&sslrootcert={authority.certificate}"
        )
        ends = CertificateEnds([], redis_settings, database, metrics)
        place = f"127.0.0.1:{postgres.port}"
        pool = await connect(database)
        try:
            async with using(pool) as kept:  # a connection of before the renewal
                await ends.report()
                assert _told(metrics, "postgresql", place) < datetime.now(UTC) + 5 * DAY
                for file, name in ((renewed.certificate, "crt"), (renewed.key, "key")):
                    shutil.copyfile(file, made.data_dir / f"server.{name}")
                await kept.execute("SELECT pg_reload_conf()")
                deadline = datetime.now(UTC) + timedelta(seconds=30)
                while _told(metrics, "postgresql", place) < datetime.now(UTC) + 5 * DAY:
                    assert datetime.now(UTC) < deadline, "the server took up no new certificate"
                    await ends.report()
        finally:
            pool.terminate()
    assert [line["certificate"] for line in _own(warned)] == [place], "of the former one"


async def test_what_can_not_be_read_ends_no_process_and_is_logged_once(
    redis_settings,
    database_url: str,
    metrics: Metrics,
    warned: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(_: object) -> None:
        raise InvalidVersion("a version that nobody knows", 9)

    monkeypatch.setattr("compose.process.certificate_ends.certificates", read)
    database = PersistenceSettings(database_url=database_url)
    ends = CertificateEnds(["redis"], redis_settings, database, metrics)
    for _ in range(2):
        await ends.report()
    assert [line["server"] for line in _own(warned)] == ["postgresql"]


async def test_without_tls_nothing_is_told(
    redis_settings, database_url: str, metrics: Metrics
) -> None:
    database = PersistenceSettings(database_url=database_url, database_read_url=database_url)
    await CertificateEnds(["redis"], redis_settings, database, metrics).report()
    assert not [
        sample for family in metrics.registry.collect() for sample in family.samples
        if sample.name in {ENDS, OVERDUE}
    ]  # fmt: skip
