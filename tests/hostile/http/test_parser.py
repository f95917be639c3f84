"""The parser alone: what it keeps from one piece to the next, and from one request to the next."""

from __future__ import annotations

import pytest

from ingress.http1.bounds import Bounds
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import Problem
from tests.hostile.http.conftest import GET, post

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def parser() -> RequestParser:
    return RequestParser(Bounds())


def test_an_empty_line_before_each_request_is_read_over(parser: RequestParser) -> None:
    for _ in range(3):
        assert parser.stage == "between"
        parser.receive(b"\r\n")
        assert parser.next() is None
        assert parser.stage == "head"
        parser.receive(GET)
        assert isinstance(parser.next(), RequestHead)
        assert parser.next() is END


def test_two_empty_lines_are_no_request(parser: RequestParser) -> None:
    parser.receive(b"\r\n\r\n" + GET)
    with pytest.raises(Problem):
        parser.next()


@pytest.mark.parametrize(
    "pieces", [[b"GET", b" (/"], [b"GE", b"(T /"], [b"X" * 30, b"X" * 10], [b"G", b"\x16\x03"]]
)
def test_what_begins_no_head_is_refused_as_soon_as_that_is_known(
    parser: RequestParser, pieces: list[bytes]
) -> None:
    parser.receive(pieces[0])
    assert parser.next() is None
    parser.receive(pieces[1])
    if pieces[1].startswith(b" "):
        assert parser.next() is None, "what is behind the method is looked at as a whole"
        return
    with pytest.raises(Problem):
        parser.next()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_body_of_which_a_part_is_missing_comes_in_pieces(parser: RequestParser, cut: int) -> None:
    """The body is the same whether the caller first asks for all of it or not."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    parser.receive(CHUNKED + body[:cut])
    assert isinstance(parser.next(), RequestHead)
    assert parser.whole_body() is None
    got = b""
    while piece := parser.next():
        assert isinstance(piece, bytes)
        got += piece
    parser.receive(body[cut:] + GET)
    while isinstance(piece := parser.next(), bytes):
        got += piece
    assert (got, piece) == (b"hello", END)
    assert isinstance(parser.next(), RequestHead), "the next request"


def test_a_body_of_a_known_length_is_whole_or_is_not_taken(parser: RequestParser) -> None:
    request = post(content=b"hello")
    parser.receive(request[:-1])
    assert isinstance(parser.next(), RequestHead)
    assert parser.whole_body() is None
    parser.receive(request[-1:] + GET)
    assert parser.whole_body() == b"hello"
    assert isinstance(parser.next(), RequestHead)


@pytest.mark.parametrize("lines", ["close\r\nConnection: x", "x\r\nConnection: Close", "x, close"])
def test_a_wish_to_close_counts_in_whichever_of_its_headers_it_is(
    parser: RequestParser, lines: str
) -> None:
    parser.receive(post(f"Connection: {lines}"))
    head = parser.next()
    assert isinstance(head, RequestHead)
    assert not head.keep_alive
