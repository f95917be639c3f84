"""What any store may answer: each is told as what it is, and no message is at fault for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from persistence.payloads.errors import PayloadCorrupt, PayloadOutage
from persistence.payloads.reading import fetch, measure, verify
from persistence.payloads.store import PayloadStore
from tests.payloads.stores import opened

DATA = b"content " * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
KEY = f"0188c0ff-5f5f-8abc-9def-0123456789ab/{SHA256}"
MARK = b"the one"
Answer = Callable[[bytes], bytes]
"""The bytes that answer a request, by its method."""


def refusal(status: str, code: str, *headers: str) -> Answer:
    """Refuse as S3 does: the first line of its answer is the declaration alone."""
    body = f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode()
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + body
    return lambda method: answer(status, b"" if method == b"HEAD" else body, *headers)


def answer(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}",
        'ETag: "e"', "Last-Modified: Fri, 27 Nov 2026 03:00:00 GMT", *headers,
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def serving(given: Answer, *, mark: bool = True) -> AsyncIterator[PayloadStore]:
    """Yield a store whose server gives this answer about ``KEY``.

    Its mark is as it should be, unless the server gives the same answer about it.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := [
                x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")
            ]:
                await reader.readexactly(int(length[0].partition(b":")[2]))
            method = head.split(b" ", 1)[0]
            about_mark = mark and b".crossfade-payloads" in head.split(b"\r\n", 1)[0]
            writer.write(answer("200 OK", MARK) if about_mark else given(method))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = opened(
        "s3://bucket/prefix",
        payload_endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        payload_region="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        payload_timeout_ms=1500,
    )
    store.identity = MARK.decode()
    async with server:
        yield store


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (refusal("503 Slow Down", "SlowDown"), "asks us to slow down|in time"),
        (
            refusal("500 Internal Server Error", "InternalError"),
            r"failed: \w+ \S+/prefix/\S+: 500 Internal Server Error: InternalError: why$|in time",
        ),
        (refusal("403 Forbidden", "RequestTimeTooSkewed"), "set this machine's clock"),
        (refusal("403 Forbidden", "SignatureDoesNotMatch"), "refuses us; check its credentials"),
        (refusal("403 Forbidden", "AccessDenied"), "check its credentials.*AccessDenied: why$"),
        (refusal("404 Not Found", "NoSuchBucket"), "bucket of PAYLOAD_STORE is not there"),
        (refusal("400 Bad Request", "ExpiredToken"), "renew AWS_SESSION_TOKEN"),
        (refusal("400 Bad Request", "AuthorizationHeaderMalformed"), "PAYLOAD_REGION"),
        (
            refusal("301 Moved Permanently", "PermanentRedirect"),
            "PAYLOAD_REGION",
        ),
        (
            refusal("307 Temporary Redirect", "TemporaryRedirect", "Location: http://127.0.0.1:1/"),
            "PAYLOAD_REGION|can't be reached|in time",  # where a GET is led to, nothing listens
        ),
        (lambda _: b"SSH-2.0-OpenSSH_9.7\r\n", "can't be reached|in time"),
        (lambda _: b"", "can't be reached|in time"),
    ],
    ids=[
        "slow down", "internal error", "clock skew", "signature", "denied", "no bucket",
        "expired", "malformed", "another region", "redirect", "another protocol", "nothing",
    ],
)  # fmt: skip
async def test_an_answer_that_says_nothing_of_the_object_is_an_outage(
    given: Answer, told: str
) -> None:
    async with serving(given) as store:
        with pytest.raises(PayloadOutage, match=told):
            await store.put(KEY, DATA)
        with pytest.raises(PayloadOutage, match=told):
            await store.get(KEY, len(DATA))


async def test_a_body_that_is_cut_off_is_an_outage() -> None:
    def given(method: bytes) -> bytes:
        return answer(
            "206 Partial Content",
            DATA[:100],
            f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}",
            length=len(DATA),
        )

    async with serving(given) as store:
        with pytest.raises(PayloadOutage):
            await store.get(KEY, len(DATA))


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content"])
async def test_other_bytes_are_corrupt_whatever_their_etag(status: str) -> None:
    def given(method: bytes) -> bytes:
        partial = f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}"
        body = b"" if method == b"HEAD" else DATA[::-1]
        return answer(status, body, *([partial] if status[:3] == "206" else []), length=len(DATA))

    async with serving(given) as store:
        with pytest.raises((PayloadCorrupt, PayloadOutage)):
            await fetch(store, KEY, len(DATA), SHA256)
        with pytest.raises((PayloadCorrupt, PayloadOutage)):
            await verify(store, KEY, len(DATA), SHA256)


@pytest.mark.parametrize("page", [b"", b"<html>It works!</html>"], ids=["empty", "a page"])
async def test_a_server_that_gives_one_page_for_every_key_is_an_outage(page: bytes) -> None:
    """So does a web server at the store's address: its answers say nothing of the object."""

    def given(method: bytes) -> bytes:
        return answer("200 OK", b"" if method == b"HEAD" else page, length=len(page))

    async with serving(given, mark=False) as store:
        for call in (fetch, verify):
            with pytest.raises(PayloadOutage):
                await call(store, KEY, len(DATA), SHA256)
        with pytest.raises(PayloadOutage, match="not the store of this service"):
            await measure(store, KEY, len(DATA))
