"""PostgreSQL over TLS, its certificate checked: ``sslmode=verify-full``."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from compose.local.postgres import PostgresServer
from persistence.database.pool import connect, using
from persistence.errors import Outage
from persistence.migrate import upgrade
from persistence.settings import PersistenceSettings
from persistence.store.writer import Writer
from tests.persistence.samples import message, placed
from tests.support.certificates import Certificate, issued_by, self_signed
from tests.support.postgres_tls import made_of, running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(initialized_postgres: Path, tmp_path: Path, certificate: Certificate):
    """One with the certificate."""
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", certificate)
    async with running(made) as started:
        yield started


def url_of(server: PostgresServer, host: str, authority: Path, mode: str = "verify-full") -> str:
    address = server.url_of("crossfade").replace("127.0.0.1", host)
    return f"{address}?sslmode={mode}&sslrootcert={authority}"


async def test_everything_goes_over_tls_and_the_certificate_is_checked(
    server: PostgresServer, certificate: Certificate
) -> None:
    url = url_of(server, "localhost", certificate.certificate)
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=SecretStr(url)))
    try:
        written = await Writer(pool).write([placed(message("a"))], None)
        assert written.persisted == [0]
        async with using(pool) as connection:
            assert await connection.fetchval(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
    finally:
        await pool.close()


async def test_a_certificate_of_another_authority_is_refused(
    server: PostgresServer, tmp_path: Path
) -> None:
    other = self_signed(tmp_path, "other")
    pool = await connect(
        PersistenceSettings(database_url=SecretStr(url_of(server, "localhost", other.certificate)))
    )
    try:
        with pytest.raises(Outage, match=r"certificate|CERTIFICATE"):
            await Writer(pool).probe()
    finally:
        pool.terminate()


async def test_a_certificate_of_another_host_is_refused_with_verify_full_alone(
    initialized_postgres: Path, tmp_path: Path, certificate: Certificate
) -> None:
    """An authority vouches for more servers than the one that was meant."""
    other = issued_by(certificate, tmp_path, "another-host")
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", other)
    async with running(made) as server:
        await upgrade(server.url_of("crossfade"))
        for mode in ("verify-ca", "verify-full"):
            url = url_of(server, "localhost", certificate.certificate, mode)
            pool = await connect(PersistenceSettings(database_url=SecretStr(url)))
            try:
                if mode == "verify-ca":
                    await Writer(pool).probe()
                else:
                    with pytest.raises(Outage, match=r"(?i)hostname mismatch"):
                        await Writer(pool).probe()
            finally:
                pool.terminate()


async def test_a_certificate_that_has_expired_is_told_as_that(
    initialized_postgres: Path, tmp_path: Path, certificate: Certificate
) -> None:
    old = issued_by(certificate, tmp_path, "server", days=0, local=True)
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", old)
    async with running(made) as server:
        url = url_of(server, "localhost", certificate.certificate)
        pool = await connect(PersistenceSettings(database_url=SecretStr(url)))
        try:
            with pytest.raises(Outage, match=r"expired.*: renew it on the server"):
                await Writer(pool).probe()
        finally:
            pool.terminate()
