"""Streams of bytes that two HTTP parsers have been found to split in two ways.

From the published work on request smuggling: CL.TE, TE.CL, TE.TE, CL.0 and duplicated lengths, bare
line ends, obsolete folding, spaces, chunk sizes and extensions (RFC 9112 section 11.2). ``HIDDEN``
is the request that an attacker would have answered in another's place.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HIDDEN", "REFUSED", "SERVED", "Served"]

HIDDEN = b"GET /healthz?hidden HTTP/1.1\r\nHost: x\r\n\r\n"
_PATH = b"/api/messages:batch"


def _post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    head = [b"POST %b %b" % (_PATH, version), b"Host: x", b"Content-Type: application/json", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


_LENGTH = b"Content-Length: %d" % len(HIDDEN)
_CHUNKED = b"Transfer-Encoding: chunked"
_TE_BODY = b"0\r\n\r\n" + HIDDEN
_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)


def _te(line: bytes) -> bytes:
    """Return a request that is chunked to one parser and has its length told to another."""
    return _post(line, b"Content-Length: %d" % len(_TE_BODY), body=_TE_BODY)


def _te_alone(line: bytes) -> bytes:
    return _post(line, body=_TE_BODY)


REFUSED = {
    # Both lengths.
    "cl_te": _post(_LENGTH, _CHUNKED, body=_TE_BODY),
    "te_cl": _post(_CHUNKED, b"Content-Length: 4", body=_CHUNK),
    "cl_te_same_length": _post(b"Content-Length: 5", _CHUNKED, body=b"0\r\n\r\n"),
    # One transfer coding to this parser, none to that.
    **{
        f"te_te_{name}": _te(line)
        for name, line in {
            "xchunked": b"Transfer-Encoding: xchunked",
            "space_before_colon": b"Transfer-Encoding : chunked",
            "tab_before_colon": b"Transfer-Encoding\t: chunked",
            "tab": b"Transfer-Encoding:\tchunked",
            "leading_space": b" Transfer-Encoding: chunked",
            "vertical_tab": b"Transfer-Encoding:\x0bchunked",
            "form_feed": b"Transfer-Encoding: \x0cchunked",
            "quoted": b'Transfer-Encoding: "chunked"',
            "comma": b"Transfer-Encoding: chunked,",
            "identity": b"Transfer-Encoding: identity",
            "identity_chunked": b"Transfer-Encoding: identity, chunked",
            "chunked_identity": b"Transfer-Encoding: chunked, identity",
            "gzip_chunked": b"Transfer-Encoding: gzip, chunked",
            "chunked_twice": b"Transfer-Encoding: chunked, chunked",
            "two_headers": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "two_headers_x": b"Transfer-Encoding: chunked\r\nTransfer-encoding: x",
            "parameter": b"Transfer-Encoding: chunked;q=1",
            "folded": b"Transfer-Encoding:\r\n chunked",
            "folded_tab": b"X: x\r\n\tTransfer-Encoding: chunked",
            "bare_lf_before": b"X: x\nTransfer-Encoding: chunked",
            "bare_cr_before": b"X: x\rTransfer-Encoding: chunked",
            "nul": b"Transfer-Encoding: chunked\x00",
            "nul_in_name": b"Transfer-Encoding\x00: chunked",
            "high_byte_in_name": b"Transfer\xadEncoding: chunked\r\nTransfer-Encoding: \xadchunked",
            "control_in_name": b"Transfer\x01-Encoding: chunked",
            "in_value": b"X: x\r\n\r Transfer-Encoding: chunked",
            "empty": b"Transfer-Encoding:",
            "cow": b"Transfer-Encoding: cow",
            "capital_k": "Transfer-Encoding: chun\u212aed".encode(),
        }.items()
    },
    **{
        f"te_alone_{name}": _te_alone(line)
        for name, line in {
            "identity": b"Transfer-Encoding: identity",
            "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "twice_in_one": b"Transfer-Encoding: chunked, chunked",
            "trailing_comma": b"Transfer-Encoding: chunked,",
            "deflate": b"Transfer-Encoding: deflate",
        }.items()
    },
    # Lengths.
    "cl_cl": _post(b"Content-Length: 0", _LENGTH, body=HIDDEN),
    "cl_cl_same": _post(_LENGTH, _LENGTH, body=HIDDEN),
    **{
        f"cl_{name}": _post(b"Content-Length: " + value, body=HIDDEN)
        for name, value in {
            "comma": b"0, 5",
            "comma_same": b"5, 5",
            "plus": b"+5",
            "minus": b"-5",
            "minus_zero": b"-0",
            "hex": b"0x5",
            "octal": b"0o5",
            "underscore": b"1_0",
            "exponent": b"1e1",
            "point": b"5.0",
            "space_inside": b"1 0",
            "letters_after": b"5abc",
            "empty": b"",
            "huge": b"9" * 40,
            "past_64_bits": b"18446744073709551621",
            "other_digits": b"\xd9\xa5",
            "quoted": b'"5"',
            "nul": b"5\x00",
            "vertical_tab": b"\x0b5",
        }.items()
    },
    "cl_space_before_colon": _post(b"Content-Length : 40", body=HIDDEN),
    "cl_folded": _post(b"Content-Length:\r\n 40", body=HIDDEN),
    "cl_underscore_and_space": _post(b"Content-Length\x20: 5", _LENGTH, body=HIDDEN),
    # Line ends and lines.
    "bare_lf": b"POST /healthz HTTP/1.1\nHost: x\nContent-Length: 0\n\n" + HIDDEN,
    "bare_lf_at_the_end": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\n" + HIDDEN,
    "bare_lf_in_the_middle": b"GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n" + HIDDEN,
    "cr_only": b"GET /healthz HTTP/1.1\rHost: x\r\r" + HIDDEN,
    "cr_in_value": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n" + HIDDEN,
    "lf_cr": b"GET /healthz HTTP/1.1\n\rHost: x\n\r\n\r" + HIDDEN,
    "obs_fold": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n" + HIDDEN,
    "fold_first": b"GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n" + HIDDEN,
    "no_colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX\r\n\r\n" + HIDDEN,
    "no_name": b"GET /healthz HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n" + HIDDEN,
    "nul_in_value": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n" + HIDDEN,
    "control_in_value": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\x1bb\r\n\r\n" + HIDDEN,
    "high_byte_in_name": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX\xe9: a\r\n\r\n" + HIDDEN,
    # Request lines.
    "http_0_9": b"GET /healthz\r\n\r\n" + HIDDEN,
    "http_0_9_version": b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n" + HIDDEN,
    "http_1_2": b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n" + HIDDEN,
    "http_2": b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n" + HIDDEN,
    "http_11": b"GET /healthz HTTP/11\r\nHost: x\r\n\r\n" + HIDDEN,
    "lower_case_http": b"GET /healthz http/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "two_spaces": b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "tab": b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "space_in_target": b"GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "space_after": b"GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n" + HIDDEN,
    "nul_in_target": b"GET /heal\x00thz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "high_byte_in_target": b"GET /heal\xffthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "space_first": b" GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "many_empty_lines": b"\r\n\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "asterisk": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "relative": b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "authority": b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "other_scheme": b"GET ftp://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "user_in_target": b"GET http://a@x/healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    # Host.
    "no_host": b"GET /healthz HTTP/1.1\r\n\r\n" + HIDDEN,
    "two_hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "bad_host": b"GET /healthz HTTP/1.1\r\nHost: x/y\r\n\r\n" + HIDDEN,
    "two_hosts_in_one": b"GET /healthz HTTP/1.1\r\nHost: x y\r\n\r\n" + HIDDEN,
    # HTTP/1.0.
    "chunked_1_0": _post(_CHUNKED, body=_TE_BODY, version=b"HTTP/1.0"),
    "chunked_1_0_keep_alive": _post(
        _CHUNKED, b"Connection: keep-alive", body=_TE_BODY, version=b"HTTP/1.0"
    ),
    # Chunks.
    **{
        f"chunk_{name}": _post(_CHUNKED, body=body + HIDDEN)
        for name, body in {
            "negative": b"-1\r\na\r\n0\r\n\r\n",
            "plus": b"+1\r\na\r\n0\r\n\r\n",
            "hex_prefix": b"0x1\r\na\r\n0\r\n\r\n",
            "overflow": b"10000000000000001\r\na\r\n0\r\n\r\n",
            "overflow_32": b"1" + b"0" * 16 + b"\r\na\r\n0\r\n\r\n",
            "empty_size": b"\r\na\r\n0\r\n\r\n",
            "space_before": b" 1\r\na\r\n0\r\n\r\n",
            "space_after": b"1 \r\na\r\n0\r\n\r\n",
            "underscore": b"1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
            "bare_lf_after_size": b"1\na\r\n0\r\n\r\n",
            "bare_cr_after_size": b"1\ra\r\n0\r\n\r\n",
            "bare_lf_after_data": b"1\r\na\n0\r\n\r\n",
            "no_end_after_data": b"1\r\na0\r\n\r\n",
            "too_short": b"3\r\na\r\n0\r\n\r\n",
            "too_long": b"1\r\nabc\r\n0\r\n\r\n",
            "lf_in_extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
            "cr_in_extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
            "long_extension": b"1;" + b"a" * 300 + b"\r\na\r\n0\r\n\r\n",
            "control_in_extension": b"1;\x01\r\na\r\n0\r\n\r\n",
            "bare_lf_last": b"1\r\na\r\n0\n\n",
            "bare_lf_after_last": b"1\r\na\r\n0\r\n\n",
            "bad_trailer": b"1\r\na\r\n0\r\nX\r\n\r\n",
            "trailer_with_space": b"1\r\na\r\n0\r\nX : a\r\n\r\n",
            "folded_trailer": b"1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n",
            "long_trailers": b"1\r\na\r\n0\r\n" + b"X: %b\r\n" % (b"a" * 9000) + b"\r\n",
            "nul_size": b"1\x00\r\na\r\n0\r\n\r\n",
            "other_digits": b"\xd9\xa1\r\na\r\n0\r\n\r\n",
        }.items()
    },
    # Other protocols.
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(range(64)) + b"\r\n\r\n",
    "random": bytes((i * 167 + 13) % 256 for i in range(400)),
    "smtp": b"EHLO x\r\nMAIL FROM:<a@b>\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "proxy_protocol": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
}
"""Each of these is answered once, with an error, and its connection is closed."""


class Served(NamedTuple):
    """A stream that may look odd and can be read in one way only."""

    stream: bytes
    requests: list[tuple[bytes, bytes]]
    """Method and path of each request in it."""


_BATCH = (b"POST", _PATH)
_HEALTH = (b"GET", b"/healthz")
_GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"

SERVED = {
    "length": Served(_post(_LENGTH, body=HIDDEN), [_BATCH]),
    "length_with_spaces": Served(_post(b"Content-Length: \t 2 \t", body=b"[]"), [_BATCH]),
    "leading_zeros": Served(_post(b"Content-Length: 0002", body=b"[]"), [_BATCH]),
    "chunked": Served(_post(_CHUNKED, body=_CHUNK), [_BATCH]),
    "chunked_capitals": Served(_post(b"tRANSFER-eNCODING: CHUNKED", body=_CHUNK), [_BATCH]),
    "chunk_extension": Served(
        _post(_CHUNKED, body=b'2;name=value;other="x"\r\n[]\r\n0;last\r\n\r\n'), [_BATCH]
    ),
    "chunk_size_zeros": Served(_post(_CHUNKED, body=b"0002\r\n[]\r\n000\r\n\r\n"), [_BATCH]),
    "trailers": Served(
        _post(_CHUNKED, body=b"2\r\n[]\r\n0\r\nContent-Length: 9\r\nX: y\r\n\r\n"), [_BATCH]
    ),
    "empty_line_first": Served(b"\r\n" + _GET + b"\r\n" + b"\r\n" + HIDDEN, [_HEALTH, _HEALTH]),
    "body_of_a_get": Served(_GET + _LENGTH + b"\r\n\r\n" + HIDDEN, [_HEALTH]),
    "chunked_body_of_a_get": Served(_GET + _CHUNKED + b"\r\n\r\n" + _CHUNK, [_HEALTH]),
    "absolute": Served(
        b"GET http://y/healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, [_HEALTH, _HEALTH]
    ),
    "header_that_looks_like_one": Served(
        _post(b"Transfer_Encoding: chunked", b"X-Content-Length: 9", _LENGTH, body=HIDDEN), [_BATCH]
    ),
    "upgrade": Served(
        _post(b"Connection: Upgrade", b"Upgrade: h2c", _LENGTH, body=HIDDEN), [_BATCH]
    ),
    "length_named_in_connection": Served(
        _post(b"Connection: keep-alive, Content-Length", _LENGTH, body=HIDDEN), [_BATCH]
    ),
    "close_ends_it": Served(_GET + b"Connection: close\r\n\r\n" + HIDDEN, [_HEALTH]),
    "http_1_0_ends_it": Served(b"GET /healthz HTTP/1.0\r\n\r\n" + HIDDEN, [_HEALTH]),
}
"""Each of these is served, and as just these requests."""
