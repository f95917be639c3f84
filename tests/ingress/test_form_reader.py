"""The splitter of ``multipart/form-data``, without a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256

import pytest

from ingress.schema.problems import MALFORMED, Problem
from ingress.web.multipart import FormReader, PartEnd, PartHead
from transport.message.payload import ContentDigest

_PIECE = 16 * 1024


def _reader(content_type: bytes = b"multipart/form-data; boundary=b") -> FormReader:
    return FormReader({b"content-type": content_type})


def _split(body: bytes, size: int) -> list[tuple[str, dict[bytes, bytes], bytes]]:
    """Return name, headers and data of each part of a body that comes in pieces."""
    reader = _reader()
    parts: list[tuple[str, dict[bytes, bytes], bytes]] = []
    ended = 0
    for start in range(0, len(body), size):
        for event in reader.feed(body[start : start + size]):
            if isinstance(event, PartHead):
                parts.append((event.name, event.headers, b""))
            elif isinstance(event, PartEnd):
                ended += 1
            else:
                name, headers, data = parts[-1]
                parts[-1] = name, headers, data + event
    reader.end()
    assert ended == len(parts)
    return parts


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("lead", [b"", b"\r\n"])
def test_a_body_is_split_wherever_it_is_cut(size: int, lead: bytes) -> None:
    data = b"\r\n--\r\n--a\r--b\n--b--\r\r\n-\r\n" + bytes(range(256)) + b"\r\n--"
    disposition = b'form-data; filename="x; name=no"; NAME="a\\"b;c"'
    body = (
        lead + b"--b \t\r\nContent-Disposition: " + disposition + b"\r\nX:\t y \r\n\r\n" + data
        + b"\r\n--b\r\n\r\n\r\n--b\r\nContent-Disposition: form-data; name=content\r\n\r\nlast"
        + b"\r\n--b--\r\nwhat follows \r\n--b counts for nothing"
    )  # fmt: skip
    assert _split(body, size) == [
        ('a"b;c', {b"content-disposition": disposition, b"x": b"y"}, data),
        ("", {}, b""),
        ("content", {b"content-disposition": b"form-data; name=content"}, b"last"),
    ]


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        b"--bX",
        b"--b\r\n\r\ndata\r\n--bX\r\n--b--",
        b"--b\r\n\r\ndata\r\n--b-X\r\n--b--",
        b"--b\r\n\r\ndata\r\n--b\n\r\n--b--",
        b"--b\r\n\r\ndata\r\n--b" + b" " * 65 + b"\r\n--b--",
        b"preamble\r\n--b\r\n",
        b"--b\r\nno header\r\n\r\n",
        b"--b\r\nX: bare\rreturn\r\n\r\n",
        b"--b\r\nX : y\r\n\r\n",
        b"--b\r\nX: " + b"y" * 8192,
        b"--b\r\n\r\ndata\r\n--b",
        b"",
    ],
)
def test_another_body_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(Problem) as refused:
        _split(body, size)
    assert refused.value.kind is MALFORMED


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/form-data; boundary=" + b"b" * 71, b'multipart/form-data; boundary="a\\\rb"'],
)
def test_a_boundary_is_what_the_rfc_calls_one(content_type: bytes) -> None:
    with pytest.raises(Problem):
        _reader(content_type)
    _reader(b'Multipart/Form-Data; charset=x; Boundary="a b"')


_ALMOST = b"\r\n--" + b"b" * 69


@pytest.mark.parametrize(
    "unit", [_ALMOST + b"X", _ALMOST, b"\r\n--", b"\r", b"b", b"\r\n--b"], ids=repr
)
def test_no_content_holds_the_event_loop(unit: bytes) -> None:
    """Content full of almost-boundaries is as quick as any, but for a small factor."""
    reader = _reader(b"multipart/form-data; boundary=" + b"b" * 70)
    list(reader.feed(b"--" + b"b" * 70 + b"\r\n\r\n"))
    assert _seconds(lambda piece: list(reader.feed(piece)), unit) < 30 * _seconds(sha256, b"x")


def test_no_text_takes_long_to_digest() -> None:
    """JSON writes a control character as six; text that no JSON could bring is not written so."""
    digest = ContentDigest()
    digest.add(b"x" * 2**20)
    plain = _seconds(digest.add, b"x")
    assert _seconds(digest.add, b"\x01") < 4 * plain
    assert digest.is_text


def _seconds(take: Callable[[bytes], object], unit: bytes) -> float:
    """Return the CPU time of the best of some pieces."""
    piece = (unit * (_PIECE // len(unit) + 1))[:_PIECE]
    best = 1.0
    for _ in range(20):
        began = time.process_time()
        take(piece)
        best = min(best, time.process_time() - began)
    return best
