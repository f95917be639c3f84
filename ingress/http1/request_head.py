"""A strict parser of request heads (RFC 9112).

Request smuggling needs two parsers that read the same bytes differently. So nothing is guessed or
repaired here: a head that another parser could read in another way is refused, and its connection
closed. ``Upgrade`` is ignored, as RFC 9110 section 7.8 allows.
"""

from __future__ import annotations

import re

import msgspec

from ingress.http1.bounds import Bounds
from ingress.http1.http2 import PREFACE, Http2RefusedError
from ingress.schema.problems import (
    HEAD_TOO_LARGE,
    MALFORMED_REQUEST,
    NOT_IMPLEMENTED,
    TARGET_TOO_LONG,
    VERSION,
    Problem,
)

__all__ = ["CHUNKED", "RequestHead", "check_start", "parse", "too_large", "too_long"]

CHUNKED = -1
"""The length of a body that comes in chunks, each with a length of its own."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# All repeats are possessive: a head that does not match is refused in linear time.
_HEAD = re.compile(
    rb"(" + _TOKEN + rb"{1,32}+) ([!-~]++) HTTP/(\d\.\d)\r\n"
    rb"((?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)
_LONGEST_METHOD = 32
_TLS = b"\x16\x03"
_START = re.compile(rb"\r|" + _TOKEN + rb"{1,32}+(?: |\Z)")
# Bytes that no head may hold: control characters, and a CR or LF without the other.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?![\n]|\Z)")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]++)((?:[/?][^#]*+)?)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[0-9A-Za-z.~_%!$&'()*+,;=-]*+|\[[0-9A-Fa-f:.]++\])(?::\d{0,5}+)?")
_LENGTH = re.compile(rb"\d{1,18}+")
_NO_LINES = "The head holds a control character, or a line that does not end in CRLF."
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
_READING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"}
_KEYS = {b"authorization", b"x-api-key", b"cookie"}  # headers that may hold a key
_MEANT = _READING | _KEYS


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of one request. Header names are in lower case."""

    method: bytes
    target: bytes
    """The request target: path and query (origin form), or ``*``."""
    version: str
    headers: list[tuple[bytes, bytes]]
    length: int
    """The body's length in bytes, or ``CHUNKED``."""
    keep_alive: bool
    expects_continue: bool


def _refused(detail: str) -> Problem:
    """Return the problem (400) for bytes that are not a request."""
    return Problem(MALFORMED_REQUEST, detail, headers={"Connection": "close"})


def check_start(data: bytearray, looked_at: int) -> None:
    """Refuse an incomplete head that can't become a valid one.

    So bytes that are not HTTP (a TLS handshake, say) are refused as soon as they come.

    Args:
        data: The bytes so far.
        looked_at: How many of them an earlier call has checked.

    Raises:
        Problem: No head begins with these bytes.
    """
    if looked_at <= _LONGEST_METHOD and not _START.match(data):
        if data.startswith(_TLS):
            raise _refused("This is a TLS handshake, and this port speaks HTTP without TLS.")
        raise _refused("It does not begin with a method and a space.")
    if _FORBIDDEN.search(data, max(looked_at - 1, 0)):
        raise _refused(_NO_LINES)


def parse(data: bytes, bounds: Bounds) -> RequestHead:
    """Parse a head.

    Args:
        data: The whole head, with the empty line at its end.
        bounds: The limits of the target's length and of the number of headers.

    Raises:
        Problem: ``data`` is not a head, can be read in two ways, or is past a limit.
    """
    found = _HEAD.fullmatch(data)
    if found is None:
        raise _refused(_why(data))
    method, target, number, fields = found.groups()
    if len(target) > bounds.target_bytes:
        raise too_long(bounds)
    version = _VERSIONS.get(number)
    if version is None:
        raise _other_version(data, number)
    headers, meant = _headers(fields)
    if len(headers) > bounds.headers:
        raise too_many(bounds)
    if b"host" in meant:
        if not _HOST.fullmatch(meant[b"host"]):
            raise _refused("Host is not a host.")
    elif version == "1.1":
        raise _refused("Host is missing.")
    keep_alive = version == "1.1"
    if b"connection" in meant:
        keep_alive = keep_alive and b"close" not in _tokens(meant[b"connection"])
    # RFC 9110, 10.1.1: an HTTP/1.0 client does not know the status 100.
    expects = version == "1.1" and meant.get(b"expect", b"").lower() == b"100-continue"
    length = _body_length(meant, version)
    if not target.startswith(b"/"):
        target, headers = _other_target(method, target, headers)
    return RequestHead(method, target, version, headers, length, keep_alive, expects)


def _other_version(data: bytes, number: bytes) -> Problem:
    if data == PREFACE:
        return Http2RefusedError()
    return Problem(
        VERSION,
        f"This is HTTP/{number.decode()}; send HTTP/1.1.",
        headers={"Connection": "close"},
    )


def _headers(fields: bytes) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """Return all headers, and by name those that decide how the request is read and who sent it.

    The latter may come only once; several ``Connection`` headers are joined.
    """
    headers: list[tuple[bytes, bytes]] = []
    meant: dict[bytes, bytes] = {}
    for line in fields.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip()  # removes space and tab: the pattern lets no other white space here
        headers.append((name, value))
        if name in _MEANT:
            if name not in meant:
                meant[name] = value
            elif name == b"connection":
                meant[name] += b"," + value
            else:
                raise _refused(f"The header {name.decode()} is given twice. Send one.")
    return headers, meant


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def too_large(bounds: Bounds) -> Problem:
    """Return the problem (431) for a head of too many bytes."""
    return Problem(
        HEAD_TOO_LARGE,
        f"The request line and headers have more than {bounds.head_bytes} bytes "
        "(INGRESS_MAX_HEAD_BYTES).",
        headers={"Connection": "close"},
    )


def too_many(bounds: Bounds) -> Problem:
    """Return the problem (431) for a head of too many headers."""
    return Problem(
        HEAD_TOO_LARGE,
        f"The request has more than {bounds.headers} headers (INGRESS_MAX_HEADERS).",
        headers={"Connection": "close"},
    )


def too_long(bounds: Bounds) -> Problem:
    """Return the problem (414) for a request target of too many bytes."""
    return Problem(
        TARGET_TOO_LONG,
        f"The request target has more than {bounds.target_bytes} bytes (INGRESS_MAX_TARGET_BYTES).",
        headers={"Connection": "close"},
    )


def _body_length(meant: dict[bytes, bytes], version: str) -> int:
    """Return the body's length in bytes, or ``CHUNKED``.

    RFC 9112, section 6: a server may answer an unknown coding with 501, may refuse a request that
    has both headers, and must treat HTTP/1.0 with a coding as faulty.
    """
    stated, coding = meant.get(b"content-length"), meant.get(b"transfer-encoding")
    if coding is None:
        if stated is None:
            return 0
        if not _LENGTH.fullmatch(stated):
            raise _refused("Content-Length is not one decimal number.")
        return int(stated)
    if stated is not None:
        raise _refused("The body's length is given twice.")
    if version == "1.0":
        raise _refused("HTTP/1.0 has no Transfer-Encoding.")
    if coding.lower() != b"chunked":
        raise Problem(
            NOT_IMPLEMENTED,
            "The only Transfer-Encoding known here is chunked, once.",
            headers={"Connection": "close"},
        )
    return CHUNKED


def _other_target(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return target and headers of a request whose target is not a path.

    RFC 9112, section 3.2.2: the host in an absolute target replaces the ``Host`` header.
    """
    if method == b"CONNECT":
        raise Problem(
            NOT_IMPLEMENTED,
            "This is no proxy: CONNECT is not known here.",
            headers={"Connection": "close"},
        )
    if target == b"*" and method == b"OPTIONS":
        return target, headers
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute[1]):
        raise _refused("The request target is neither a path nor an http URL.")
    host, path = absolute.groups()
    if not path.startswith(b"/"):
        path = b"/" + path
    rest = [pair for pair in headers if pair[0] != b"host"]
    return path, [(b"host", host), *rest]


def _why(data: bytes) -> str:
    """Return the text that explains why ``data`` is not a head."""
    if _FORBIDDEN.search(data):
        return _NO_LINES
    line, _, _ = data.partition(b"\r\n")
    if not re.fullmatch(_TOKEN + rb"{1,32}+ [!-~]++ HTTP/\d\.\d", line):
        return "The first line is not a method, a target and HTTP/1.1, with one space between."
    return "A header is not a name, a colon and a value in one line (RFC 9112 section 5)."
