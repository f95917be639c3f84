"""A request head that came before is taken for what it was, and only where all is as it was."""

from __future__ import annotations

import pytest

from ingress.accept.header_cache import CachedHead, RequestHeadCache

BODY = b'{"conversationId": "c1"}'
HEADERS = {b"host": b"x", b"content-type": b"application/json", b"content-length": b"24"}


def _raw(headers: dict[bytes, bytes]) -> bytes:
    lines = [b"POST /api/messages HTTP/1.1", *(b"%b: %b" % pair for pair in headers.items())]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _learn(cache: RequestHeadCache, headers: dict[bytes, bytes], length: int = len(BODY)) -> None:
    cache.learn(_raw(headers), CachedHead(headers, length, True))


@pytest.fixture
def header_cache() -> RequestHeadCache:
    cache = RequestHeadCache(most=3)
    _learn(cache, HEADERS)
    return cache


def test_the_same_head_gives_the_same_headers_and_the_new_body(
    header_cache: RequestHeadCache,
) -> None:
    found = header_cache.find(_raw(HEADERS) + BODY.upper())
    assert found is not None
    assert (found[0].headers, found[0].keep_alive, found[1]) == (HEADERS, True, BODY.upper())


@pytest.mark.parametrize(
    "data",
    [
        _raw(HEADERS),
        _raw(HEADERS) + BODY[:-1],
        _raw(HEADERS) + BODY + b"P",
        _raw(HEADERS) + BODY + _raw(HEADERS) + BODY,
        _raw(HEADERS | {b"host": b"y"}) + BODY,
        _raw(HEADERS | {b"expect": b"100-continue"}) + BODY,
        BODY,
        b"\r\n\r\n" + BODY,
    ],
)
def test_anything_else_is_for_the_parser(header_cache: RequestHeadCache, data: bytes) -> None:
    assert header_cache.find(data) is None


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (HEADERS, 0),
        (HEADERS | {b"x": b" " * 4096}, len(BODY)),
        *(
            (HEADERS | {name: b"1"}, len(BODY))
            for name in (b"traceparent", b"x-correlation-id", b"idempotency-key")
        ),
    ],
)
def test_what_would_never_come_again_or_has_no_body_is_not_learnt(
    headers: dict[bytes, bytes], length: int
) -> None:
    header_cache = RequestHeadCache()
    _learn(header_cache, headers, length)
    assert len(header_cache) == 0


def test_it_is_bounded(header_cache: RequestHeadCache) -> None:
    for number in range(20):
        headers = HEADERS | {b"host": b"%d" % number}
        _learn(header_cache, headers)
        assert header_cache.find(_raw(headers) + BODY) is not None
    assert len(header_cache) <= 3
