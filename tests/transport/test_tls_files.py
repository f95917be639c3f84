"""Files for TLS that are replaced while a process runs."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Certificate, self_signed
from transport.kafka.connection.security import ssl_context
from transport.redis.client.connections import tls_of
from transport.settings import TransportSettings


@asynccontextmanager
async def _server(shown: Certificate, trusted: Certificate) -> AsyncIterator[int]:
    """Run one that greets clients which prove who they are."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=trusted.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(shown.certificate, shown.key)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def _greeting(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        return await reader.read()
    finally:
        writer.close()


def _put(made: Certificate, folder: Path, name: str) -> None:
    """Put files in their place at once, as a renewal does."""
    for source, suffix in ((made.certificate, "pem"), (made.key, "key")):
        shutil.copy(source, folder / "next")
        (folder / "next").replace(folder / f"{name}.{suffix}")


def _context(log: str, folder: Path) -> ssl.SSLContext | None:
    files = [str(folder / name) for name in ("server.pem", "client.pem", "client.key")]
    if log == "kafka":
        names = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
        values = dict(zip(names, files, strict=True))
        return ssl_context(TransportSettings(kafka_security_protocol="SSL", **values))
    names = ("redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file")
    values = dict(zip(names, files, strict=True))
    return tls_of(TransportSettings(redis_tls=True, **values))


@pytest.mark.parametrize("log", ["redis", "kafka"])
async def test_a_connection_after_a_renewal_uses_the_new_files(log: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    old = self_signed(first), self_signed(first, "client")
    new = self_signed(second), self_signed(second, "client")
    for made, name in zip(old, ("server", "client"), strict=True):
        _put(made, tmp_path, name)
    context = _context(log, tmp_path)
    assert context is not None
    async with _server(*old) as port:
        assert await _greeting(port, context) == b"hello"
    async with _server(*new) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await _greeting(port, context)
        _put(new[0], tmp_path, "server")
        shutil.copy(new[1].certificate, tmp_path / "client.pem")  # its key is still to come
        with pytest.raises(ssl.SSLError):
            await _greeting(port, context)
        _put(new[1], tmp_path, "client")
        assert await _greeting(port, context) == b"hello"
