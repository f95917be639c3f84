"""The end of a certificate, and the reasons for which one is refused."""

from __future__ import annotations

import asyncio
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.certificates import issued_by, self_signed
from tests.support.tls_proxy import tls_in_front_of
from tests.transport.redis_backend import short_settings
from transport.certificates import Certificate, certificate_in_file
from transport.errors import TransportUnavailable
from transport.redis import RedisTransport
from transport.tls_refusals import certificate_refusal


@pytest.mark.parametrize("days", [0, 2, 36500], ids=["expired", "near", "after 2050"])
def test_the_end_is_what_openssl_wrote(tmp_path: Path, days: int) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = issued_by(self_signed(tmp_path, "authority"), tmp_path, "server", days=days)
    found = certificate_in_file("A_SETTING", made.certificate)
    assert (found.whose, found.is_ours) == ("A_SETTING", True)
    for written in (found.begins, found.ends - timedelta(days=days)):
        assert before <= written <= datetime.now(UTC)


def test_an_authority_of_another_kind_is_read_too(tmp_path: Path) -> None:
    """A self-signed one has other extensions; a key may stand before it in the file."""
    made = self_signed(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
    left = certificate_in_file("A_SETTING", both).ends.timestamp() - time.time()
    assert 1.9 * 86400 < left <= 2 * 86400


@pytest.mark.parametrize("text", ["", "no PEM file", "-----BEGIN CERTIFICATE-----\nMAA=\n"])
def test_a_file_without_a_certificate_is_no_certificate(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.pem"
    file.write_text(f"{text}-----END CERTIFICATE-----")
    with pytest.raises(ValueError):
        certificate_in_file("A_SETTING", file)


@pytest.mark.parametrize(
    ("lifetime", "left"),
    [
        (timedelta(days=365), timedelta(days=21)),
        (timedelta(days=90), timedelta(days=21)),
        (timedelta(days=45), timedelta(days=11.25)),
        (timedelta(days=6), timedelta(days=1.5)),
        (timedelta(hours=24), timedelta(hours=6)),
    ],
    ids=str,
)
def test_a_certificate_is_overdue_late_in_its_own_life(lifetime: timedelta, left: timedelta):
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    one = Certificate("it", begins, begins + lifetime)
    assert one.ends - one.overdue == left


async def test_a_server_whose_certificate_has_expired_is_told_as_that(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    authority = self_signed(tmp_path, "authority")
    old = issued_by(authority, tmp_path, "server", days=0, local=True)
    async with tls_in_front_of(own_redis.host, own_redis.port, old) as port:
        settings = short_settings(
            None,
            redis_port=port,
            redis_tls=True,
            redis_tls_ca_file=str(authority.certificate),
        )
        with pytest.raises(TransportUnavailable, match=r"expired.*: renew it on the server"):
            async with RedisTransport.from_settings(settings):
                pass


async def test_an_authority_that_newer_pythons_refuse_is_told_as_that(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    """Python 3.13 sets this flag by itself; ``openssl req -x509`` makes such an authority."""
    authority = self_signed(tmp_path, "authority", usage="")
    server = issued_by(authority, tmp_path, "server", local=True)
    context = ssl.create_default_context(cafile=authority.certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    async with tls_in_front_of(own_redis.host, own_redis.port, server) as port:
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            await asyncio.open_connection("localhost", port, ssl=context)
    told = certificate_refusal(refused.value, authorities="CA_FILE", own="CERT_FILE")
    assert told is not None
    assert "RFC 5280" in told


async def test_a_server_that_refuses_our_certificate_is_told_with_its_setting(
    own_redis: ValkeyServer, tmp_path: Path
) -> None:
    authority = self_signed(tmp_path, "authority")
    server = issued_by(authority, tmp_path, "server", local=True)
    ours = issued_by(authority, tmp_path, "client", days=0)
    async with tls_in_front_of(own_redis.host, own_redis.port, server, authority) as port:
        settings = short_settings(
            None,
            redis_port=port,
            redis_tls=True,
            redis_tls_ca_file=str(authority.certificate),
            redis_tls_cert_file=str(ours.certificate),
            redis_tls_key_file=str(ours.key),
        )
        with pytest.raises(TransportUnavailable, match="REDIS_TLS_CERT_FILE"):
            async with RedisTransport.from_settings(settings):
                pass
