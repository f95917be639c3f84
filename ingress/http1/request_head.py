"""Read a request's head strictly, as RFC 9112 writes it.

Two parsers that read one stream of bytes differently are what request smuggling needs. So nothing
is guessed or repaired here: a head that another parser could read in another way is refused, and
its connection closed. ``Upgrade`` is ignored, as RFC 9110 section 7.8 lets a server do.
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
# What no head holds: control characters, and a CR or LF without the other.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?![\n]|\Z)")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]++)((?:[/?][^#]*+)?)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[0-9A-Za-z.~_%!$&'()*+,;=-]*+|\[[0-9A-Fa-f:.]++\])(?::\d{0,5}+)?")
_LENGTH = re.compile(rb"\d{1,18}+")
_NO_LINES = "The head holds a control character, or a line that does not end in CRLF."
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
_MEANT = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"}


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """One request's head. Header names are in lower case."""

    method: bytes
    target: bytes
    """In origin form, or ``*``."""
    version: str
    headers: list[tuple[bytes, bytes]]
    length: int
    """The body's length in bytes, or ``CHUNKED``."""
    keep_alive: bool
    expects_continue: bool


def _refused(detail: str) -> Problem:
    """Return the answer to bytes that are not a request."""
    return Problem(MALFORMED_REQUEST, detail, headers={"Connection": "close"})


def check_start(data: bytearray, looked_at: int) -> None:
    """Refuse ``data`` if no head starts so; ``looked_at`` bytes of it were checked before.

    So bytes that are not HTTP (a TLS handshake, say) are refused as they come, and not waited for.

    Raises:
        Problem: no head begins like that.
    """
    if looked_at <= _LONGEST_METHOD and not _START.match(data):
        if data.startswith(_TLS):
            raise _refused("This is a TLS handshake, and this port speaks HTTP without TLS.")
        raise _refused("It does not begin with a method and a space.")
    if _FORBIDDEN.search(data, max(looked_at - 1, 0)):
        raise _refused(_NO_LINES)


def parse(data: bytes, bounds: Bounds) -> RequestHead:
    """Parse a head; ``data`` is all of it, with the empty line.

    Raises:
        Problem: it is not one, it can be read in two ways, or it is past a limit.
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
    # RFC 9110, 10.1.1: a client of HTTP/1.0 does not know what 100 means.
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
    """Return all headers, and those that say how a request is read, each of which comes once."""
    headers: list[tuple[bytes, bytes]] = []
    meant: dict[bytes, bytes] = {}
    for line in fields.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip()  # of space and tab: no other white space gets here
        headers.append((name, value))
        if name in _MEANT:
            if name not in meant:
                meant[name] = value
            elif name == b"connection":
                meant[name] += b"," + value
            else:
                raise _refused(f"The header {name.decode()} is given twice.")
    return headers, meant


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def too_large(bounds: Bounds) -> Problem:
    """Return the answer to a head of too many bytes."""
    return Problem(
        HEAD_TOO_LARGE,
        f"The request line and headers have more than {bounds.head_bytes} bytes "
        "(INGRESS_MAX_HEAD_BYTES).",
        headers={"Connection": "close"},
    )


def too_many(bounds: Bounds) -> Problem:
    """Return the answer to a head of too many headers."""
    return Problem(
        HEAD_TOO_LARGE,
        f"The request has more than {bounds.headers} headers (INGRESS_MAX_HEADERS).",
        headers={"Connection": "close"},
    )


def too_long(bounds: Bounds) -> Problem:
    """Return the answer to a request target of too many bytes."""
    return Problem(
        TARGET_TOO_LONG,
        f"The request target has more than {bounds.target_bytes} bytes (INGRESS_MAX_TARGET_BYTES).",
        headers={"Connection": "close"},
    )


def _body_length(meant: dict[bytes, bytes], version: str) -> int:
    """Return the body's length.

    RFC 9112 section 6: a server may refuse a coding that it does not know with 501, and a request
    that has both headers; and has to take HTTP/1.0 with a coding for faulty.
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

    RFC 9112 section 3.2.2: the host of an absolute target goes before ``Host``.
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
    """Explain the fault of a head that is not one."""
    if _FORBIDDEN.search(data):
        return _NO_LINES
    line, _, _ = data.partition(b"\r\n")
    if not re.fullmatch(_TOKEN + rb"{1,32}+ [!-~]++ HTTP/\d\.\d", line):
        return "The first line is not a method, a target and HTTP/1.1, with one space between."
    return "A header is not a name, a colon and a value in one line (RFC 9112 section 5)."
