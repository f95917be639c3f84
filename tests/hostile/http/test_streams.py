"""Random streams of requests: split as another strict parser (h11) splits them, however cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import h11
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ingress.http1.bounds import Bounds
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import Problem


class Request(NamedTuple):
    """What a parser took for one request."""

    method: bytes
    target: bytes
    body: bytes


class Read(NamedTuple):
    """What a parser made of a stream."""

    whole: list[Request]
    refused: bool
    rest: bytes
    """Body of a request that is not complete."""


def ours(pieces: Iterable[bytes]) -> Read:
    """Split as the service does."""
    parser = RequestParser(Bounds())
    whole: list[Request] = []
    head: RequestHead | None = None
    body = b""
    for piece in pieces:
        parser.receive(piece)
        while True:
            try:
                found = parser.next()
            except Problem:
                return Read(whole, True, b"")
            if found is None:
                break
            if isinstance(found, RequestHead):
                head, body = found, b""
            elif found is END:
                assert head is not None
                whole.append(Request(head.method, head.target, body))
                if not head.keep_alive:
                    return Read(whole, False, b"")
            else:
                assert isinstance(found, bytes)
                assert found
                body += found
    return Read(whole, False, body if parser.stage == "body" else b"")


def theirs(stream: bytes) -> Read:
    """Split as h11 does, which refuses the empty line that RFC 9112 section 2.2 has us ignore."""
    connection = _after_an_empty_line(stream)
    whole: list[Request] = []
    request: h11.Request | None = None
    body = b""
    while True:
        left = connection.trailing_data[0]
        if connection.their_state is h11.IDLE and left and left in b"\r\n":
            return Read(whole, False, b"")  # of what may become a second empty line
        try:
            found = connection.next_event()
        except h11.RemoteProtocolError:
            return Read(whole, True, b"")
        if isinstance(found, h11.Request):
            request, body = found, b""
        elif isinstance(found, h11.Data):
            body += bytes(found.data)
        elif isinstance(found, h11.EndOfMessage):
            assert request is not None
            whole.append(Request(request.method, request.target, body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return Read(whole, False, b"")
            connection.start_next_cycle()
            connection = _after_an_empty_line(connection.trailing_data[0])
        else:
            return Read(whole, False, body if connection.their_state is h11.SEND_BODY else b"")


def _after_an_empty_line(stream: bytes) -> h11.Connection:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if data := stream.removeprefix(b"\r\n"):
        connection.receive_data(data)
    return connection


_methods = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"M-SEARCH", b"post"])
_targets = st.sampled_from([b"/", b"/healthz", b"/api/messages", b"/a?b=c", b"/%00", b"//x"])
_versions = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1"])
_ends = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\n ", b"\r\r\n"])
_bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"]
    ),
)
_others = st.sampled_from(
    [
        b"X: y", b"X:", b"X:  y  ", b"X:\ty", b"X-Y: \xe9", b"Accept: */*", b"Connection: close",
        b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue",
        b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: +5", b"Content-Length: 5, 5",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
        b"transfer-encoding: Chunked",
        b"Transfer-Encoding : chunked", b"Content-Length : 5", b"X y: z", b": z", b" folded",
        b"X\x00: y", b"X: a\x00b", b"Host: y",
        b"Content-Length: 18446744073709551621",
    ]
)  # fmt: skip


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a body in chunks, now and then not quite."""
    made = []
    while data:
        size = draw(st.integers(1, len(data)))
        form = draw(st.sampled_from([b"%x"] * 6 + [b"%X", b"0%x", b"0x%x", b"%x ", b"+%x", b" %x"]))
        extension = draw(st.sampled_from([b""] * 6 + [b";a", b";a=b", b'; a="b"', b";a\nb"]))
        made.append(form % size + extension + draw(_ends) + data[:size] + draw(_ends))
        data = data[size:]
    trailers = draw(st.sampled_from([b""] * 6 + [b"X: y\r\n", b"Content-Length: 5\r\n", b"X\r\n"]))
    return b"".join(made) + b"0" + draw(_ends) + trailers + draw(_ends)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return one request, or what nearly is one."""
    lines = [b"%b %b %b" % (draw(_methods), draw(_targets), draw(_versions))]
    if draw(st.integers(0, 9)):
        lines.append(b"Host: x")
    content = draw(_bodies)
    framing = draw(st.sampled_from(["length", "length", "chunks", "odd", "none"]))
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(content))
    elif framing == "chunks":
        lines.append(b"Transfer-Encoding: chunked")
        content = draw(chunked(content))
    elif framing == "odd":
        size = draw(st.sampled_from([b"%d", b"0%d", b"+%d", b"-%d", b"0x%x", b"%d, %d", b"%d\x0b"]))
        told = size % ((len(content),) * size.count(b"%"))
        lines.append(draw(st.sampled_from([b"Content-Length: ", b"Content-Length:\t"])) + told)
    else:
        content = b""
    if draw(st.booleans()):
        lines += draw(st.lists(_others, max_size=2))
    return b"".join(line + draw(_ends) for line in lines) + draw(_ends) + content


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Return some requests, with a few bytes changed now and then."""
    stream = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=4))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(stream) - 1))
        byte = draw(st.sampled_from(b"\r\n\t \x00:;,0aA\x7f\x80/"))
        if draw(st.booleans()):
            stream[at] = byte
        else:
            stream.insert(at, byte)
    return bytes(stream)


@st.composite
def cut(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Return a stream, and the same in pieces."""
    stream = draw(streams())
    places = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=12)))
    edges = [0, *places, len(stream)]
    return stream, [stream[a:b] for a, b in pairwise(edges)]


def _compare(found: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = found
    whole = ours([stream])
    assert ours(pieces) == whole
    assert ours(stream[i : i + 1] for i in range(len(stream))) == whole
    other = theirs(stream)
    event(f"refused: here {whole.refused}, there {other.refused}")
    if whole.refused:  # it may be stricter, and may never have read anything else before that
        assert whole.whole == other.whole[: len(whole.whole)]
    else:
        assert whole == other


_few = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_few
@given(cut())
def test_a_stream_is_split_as_another_strict_parser_does_or_refused(
    found: tuple[bytes, list[bytes]],
) -> None:
    _compare(found)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@settings(_few, max_examples=50_000, derandomize=False)
@given(cut())
def test_many_streams_are_split_as_another_strict_parser_does_or_refused(
    found: tuple[bytes, list[bytes]],
) -> None:
    _compare(found)


@_few
@given(st.lists(st.tuples(_targets, _bodies, st.booleans()), max_size=5), st.data())
def test_sound_streams_are_read_whole(
    sound: list[tuple[bytes, bytes, bool]], data: st.DataObject
) -> None:
    """So that the others are not refused for too much."""
    stream = b""
    for target, content, in_chunks in sound:
        stream += b"POST %b HTTP/1.1\r\nHost: x\r\n" % target
        if in_chunks:
            size = max(1, len(content) // 2)
            parts = [content[i : i + size] for i in range(0, len(content), size)]
            content_ = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            stream += b"Transfer-Encoding: chunked\r\n\r\n" + content_ + b"0\r\n\r\n"
        else:
            stream += b"Content-Length: %d\r\n\r\n" % len(content) + content
    step = data.draw(st.integers(1, 40))
    read = ours(stream[i : i + step] for i in range(0, len(stream), step))
    assert read == Read([Request(b"POST", target, body) for target, body, _ in sound], False, b"")
    assert read == theirs(stream)
