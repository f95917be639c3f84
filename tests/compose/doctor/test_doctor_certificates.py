"""``crossfade doctor`` names the end of each certificate, and warns before it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compose.doctor.certificates import examine_certificates
from compose.doctor.observation import Grade
from persistence.migrate import upgrade
from tests.support.certificates import Certificate, issued_by, redated, self_signed
from tests.support.doctor import examined
from tests.support.postgres_tls import made_of, running
from tests.support.tls_proxy import tls_in_front_of
from transport.certificates import Certificate as Known

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TODAY, DAY = datetime.now(UTC), timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "is_ours", "grade"),
    [
        (22, False, Grade.FINE),
        (20, False, Grade.WARNING),
        (-1, False, Grade.WARNING),
        (22, True, Grade.FINE),
        (20, True, Grade.WARNING),
        (-1, True, Grade.BAD),
    ],
)
def test_an_end_that_is_near_is_graded(days: int, is_ours: bool, grade: Grade) -> None:
    one = Known("it", NOW - timedelta(days=300), NOW + timedelta(days=days), is_ours)
    later = Known("another", NOW, NOW + timedelta(days=400), is_ours)
    (found,) = examine_certificates([later, one], now=NOW)
    assert found.grade is grade
    assert found.what == ("own certificate" if is_ours else "certificate")
    assert f"{one.ends:%Y-%m-%d}" in found.found


@pytest.mark.parametrize(("hours", "grade"), [(7, Grade.FINE), (5, Grade.WARNING)])
def test_a_certificate_of_a_day_is_fine_until_its_last_hours(hours: int, grade: Grade) -> None:
    ends = NOW + timedelta(hours=hours)
    (found,) = examine_certificates([Known("it", ends - timedelta(days=1), ends)], now=NOW)
    assert found.grade is grade
    assert found.found.endswith(f"in {hours} hours")


@pytest.fixture
def authority(tmp_path: Path) -> Certificate:
    return self_signed(tmp_path, "authority")


async def _examined(folder: Path, **settings: str) -> dict[str, Any]:
    _, found = await examined(folder, settings=settings)
    return found


async def test_those_of_redis_and_our_own_are_named(
    redis_settings, database_url: str, authority: Certificate, tmp_path: Path
) -> None:
    server = issued_by(authority, tmp_path, "server", days=90, local=True)
    ours = redated(
        issued_by(authority, tmp_path, "client"),
        authority,
        begins=TODAY - 30 * DAY,
        ends=TODAY + 5 * DAY,
    )
    address = redis_settings.redis_host, redis_settings.redis_port
    async with tls_in_front_of(*address, server, authority) as port:
        found = await _examined(
            tmp_path,
            DATABASE_URL=database_url,
            REDIS_URL=f"rediss://localhost:{port}/{redis_settings.redis_stream_db}",
            REDIS_TLS_CA_FILE=str(authority.certificate),
            REDIS_TLS_CERT_FILE=str(ours.certificate),
            REDIS_TLS_KEY_FILE=str(ours.key),
        )
    theirs, own = found["log redis, certificate"], found["log redis, own certificate"]
    assert (theirs["grade"], own["grade"]) == ("fine", "warning")
    assert theirs["found"].startswith("localhost: it ends on ")
    assert own["found"].startswith("REDIS_TLS_CERT_FILE: it ends on ")
    assert own["found"].endswith("in 4 days")
    assert "postgresql, certificate" not in found, "it is spoken to without TLS"


async def test_those_of_postgresql_and_our_own_are_named(
    initialized_postgres: Path, redis_settings, authority: Certificate, tmp_path: Path
) -> None:
    server = redated(
        issued_by(authority, tmp_path, "server", local=True),
        authority,
        begins=TODAY - 30 * DAY,
        ends=TODAY + 5 * DAY,
    )
    ours = issued_by(authority, tmp_path, "client", days=0)
    made = made_of(initialized_postgres, tmp_path / "postgres" / "data", server)
    async with running(made) as postgres:
        address = postgres.url_of("crossfade")
        await upgrade(address)
        found = await _examined(
            tmp_path,
            REDIS_HOST=redis_settings.redis_host,
            REDIS_PORT=str(redis_settings.redis_port),
            DATABASE_URL=f"{address}?sslmode=verify-full&sslrootcert={authority.certificate}"
            f"&sslcert={ours.certificate}&sslkey={ours.key}",
        )
    theirs, own = found["postgresql, certificate"], found["postgresql, own certificate"]
    assert (theirs["grade"], own["grade"]) == ("warning", "bad")
    assert theirs["found"].startswith(f"127.0.0.1:{postgres.port}: it ends on ")
    assert own["found"].startswith("sslcert: it ended on ")
