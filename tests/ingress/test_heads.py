"""A request head that came before is taken for what it was, and only where all is as it was."""

from __future__ import annotations

import pytest

from ingress.accept.header_cache import RequestHeadCache

BODY = b'{"conversationId": "c1"}'
HEADERS = {b"host": b"x", b"content-type": b"application/json", b"content-length": b"24"}


def _head(headers: dict[bytes, bytes]) -> bytes:
    lines = [b"POST /api/messages HTTP/1.1", *(b"%b: %b" % pair for pair in headers.items())]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.fixture
def heads() -> RequestHeadCache:
    heads = RequestHeadCache(most=3)
    heads.learn(_head(HEADERS), BODY, HEADERS, keep_alive=True)
    return heads


def test_the_same_head_gives_the_same_headers_and_the_new_body(heads: RequestHeadCache) -> None:
    found = heads.find(_head(HEADERS) + BODY.upper())
    assert found is not None
    assert (found[0].headers, found[0].keep_alive, found[1]) == (HEADERS, True, BODY.upper())


@pytest.mark.parametrize(
    "data",
    [
        _head(HEADERS),
        _head(HEADERS) + BODY[:-1],
        _head(HEADERS) + BODY + b"P",
        _head(HEADERS) + BODY + _head(HEADERS) + BODY,
        _head(HEADERS | {b"host": b"y"}) + BODY,
        _head(HEADERS | {b"expect": b"100-continue"}) + BODY,
        BODY,
        b"\r\n\r\n" + BODY,
    ],
)
def test_anything_else_is_for_the_parser(heads: RequestHeadCache, data: bytes) -> None:
    assert heads.find(data) is None


@pytest.mark.parametrize(
    ("head", "body", "headers"),
    [
        (b"", BODY, HEADERS),  # the parser had skipped something before it
        (_head(HEADERS), b"", HEADERS),
        (_head(HEADERS) + b" " * 4096, BODY, HEADERS),
        (_head(HEADERS), BODY + b" ", HEADERS),
        *(
            (_head(HEADERS | {name: b"1"}), BODY, HEADERS | {name: b"1"})
            for name in (b"traceparent", b"x-correlation-id", b"idempotency-key")
        ),
        (_head({b"transfer-encoding": b"chunked"}), BODY, {b"transfer-encoding": b"chunked"}),
    ],
)
def test_what_would_never_come_again_or_has_no_length_is_not_learnt(
    head: bytes, body: bytes, headers: dict[bytes, bytes]
) -> None:
    heads = RequestHeadCache()
    heads.learn(head, body, headers, keep_alive=True)
    assert not heads._known


def test_it_is_bounded(heads: RequestHeadCache) -> None:
    for number in range(20):
        headers = HEADERS | {b"host": b"%d" % number}
        heads.learn(_head(headers), BODY, headers, keep_alive=True)
        assert heads.find(_head(headers) + BODY) is not None
    assert len(heads._known) <= 3
