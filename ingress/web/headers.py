"""The request headers that this service reads: each has a function that checks and returns it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ingress.schema.problems import MEDIA, FieldError, Problem
from ingress.schema.requests import ID_LENGTH
from ingress.schema.validation_errors import field_problem
from ingress.web.inflate import coding_of
from otel.tracing.requests import Trace

__all__ = [
    "CORRELATION_LENGTH",
    "CORRELATION_PATTERN",
    "Headers",
    "RequestContext",
    "by_name",
    "correlation_id",
    "header_safe",
    "idempotency_key",
    "is_json",
    "media_type",
]

Headers = dict[bytes, bytes]
"""The headers of one request, names in lower case as ASGI gives them; see ``by_name``."""

CORRELATION_LENGTH = 128
CORRELATION_PATTERN = r"^[A-Za-z0-9._~:/+=@-]{1,128}$"
"""The pattern of a correlation id. It has no spaces, quotes or control characters, because the id
goes into headers, logs and other people's queries."""

_CORRELATION = re.compile(CORRELATION_PATTERN[1:-1].encode())
# draft-ietf-httpapi-idempotency-key-header: the key is a structured-field string, that is, in
# quotes. Keys without quotes are common in practice, and accepted too.
_QUOTED = re.compile(rb'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(rb"[\x21\x23-\x7e]+")

_JOINED = (b"content-encoding", b"idempotency-key")


def by_name(pairs: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return a request's headers by name.

    If a name is repeated, the last line counts. ``Content-Encoding`` is a list (RFC 9110, 5.3 and
    8.4), so its lines are joined. Those of ``Idempotency-Key`` are joined too, so that two keys are
    refused later, and none of them is silently chosen.
    """
    headers = dict(pairs)
    if len(headers) < len(pairs):
        for name in _JOINED:
            if name in headers:
                headers[name] = b", ".join(value for other, value in pairs if other == name)
    return headers


class RequestContext(msgspec.Struct, frozen=True, gc=False):
    """Properties that a request's headers give to every message in it."""

    correlation_id: str | None
    trace: Trace


def correlation_id(headers: Headers) -> str | None:
    """Return the client's ``X-Correlation-ID``, if it sent one.

    Raises:
        Problem: The id does not match ``CORRELATION_PATTERN`` (422).
    """
    value = headers.get(b"x-correlation-id")
    if value is None:
        return None
    if _CORRELATION.fullmatch(value):
        return value.decode("ascii")
    raise field_problem(
        [
            FieldError(
                "X-Correlation-ID",
                f"is not 1 to {CORRELATION_LENGTH} of the characters A-Z a-z 0-9 . _ ~ : / + = @ -",
                "Send such an id, such as a UUID, or leave the header out.",
            )
        ]
    )


def header_safe(correlation: str, otherwise: str) -> bytes:
    """Return a stored correlation id as a header's value, or ``otherwise`` if it is unsafe.

    Another producer may have put anything into the log. A line break in a header would let it write
    headers of its own.
    """
    value = correlation.encode("ascii", "replace")
    return value if _CORRELATION.fullmatch(value) else otherwise.encode()


def idempotency_key(headers: Headers) -> str | None:
    """Return the ``Idempotency-Key``, which stands in for ``clientMessageId``, if any.

    Raises:
        Problem: The key is empty, too long, or not printable ASCII (422).
    """
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        key = re.sub(rb"\\(.)", rb"\1", quoted[1])
    elif _BARE.fullmatch(value):
        key = value
    else:
        key = b""
    if 1 <= len(key) <= ID_LENGTH:
        return key.decode("ascii")
    raise field_problem(
        [
            FieldError(
                "Idempotency-Key",
                f"is not one value of 1 to {ID_LENGTH} printable ASCII characters",
                'Send a string such as "8e03978e-40d5-43dd-bc93-6894a57f9324".',
            )
        ]
    )


def media_type(headers: Headers, accepted: tuple[bytes, ...], *, beside: str = "") -> bytes:
    """Return the body's media type, one of ``accepted``, in lower case and without parameters.

    Args:
        headers: The request's headers.
        accepted: The media types that the route takes.
        beside: A text for the error that names further types, which another part takes.

    Raises:
        Problem: The media type is another or missing, its charset is not UTF-8, or the body's
            compression is not supported (415).
    """
    value = headers.get(b"content-type", b"")
    if value in accepted and b"content-encoding" not in headers:
        return value
    essence, _, parameters = value.partition(b";")
    essence = essence.strip().lower()
    names = " or ".join(item.decode() for item in accepted)
    if essence not in accepted:
        given = essence[:80].decode("latin-1")
        fault = f"The content type is {given}" if given else "There is no Content-Type"
        raise Problem(MEDIA, f"{fault}; send {names}{beside}.")
    if not _utf8(parameters):
        raise Problem(MEDIA, f"Send {names} in UTF-8, the one encoding JSON has.")
    coding_of(headers)
    return essence


def is_json(headers: Headers) -> bool:
    """Return whether the request's ``Content-Type`` is ``application/json``."""
    essence = headers.get(b"content-type", b"").partition(b";")[0]
    return essence.strip().lower() == b"application/json"


def _utf8(parameters: bytes) -> bool:
    for parameter in parameters.split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"charset":
            return value.strip().strip(b'"').lower() in {b"utf-8", b"utf8", b"us-ascii"}
    return True
