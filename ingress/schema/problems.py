"""The service's errors as problem documents (RFC 9457): every type, and the exception for it.

A type's URI is a path of this service (``/problems/<name>``). It answers with the type's meaning
and remedy, so that a reader of a log file finds both there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

import msgspec

__all__ = [
    "BASE",
    "MEDIA_TYPE",
    "FieldError",
    "Problem",
    "ProblemBody",
    "ProblemKind",
    "kinds",
]

MEDIA_TYPE = "application/problem+json"
BASE = "/problems/"


class ProblemKind(msgspec.Struct, frozen=True):
    """One problem type: its name, HTTP status, title, and remedy for the client."""

    name: str
    status: int
    title: str
    remedy: str

    @property
    def uri(self) -> str:
        """The document's ``type`` member, such as ``/problems/too-large``."""
        return BASE + self.name


class FieldError(msgspec.Struct, frozen=True):
    """One fault of one field. ``field`` is a path such as ``recipientIds[3]``."""

    field: str
    message: str
    remedy: str


class ProblemBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A problem document (RFC 9457, section 3.1), with ``errors`` and ``correlationId``."""

    type: str
    title: str
    status: Annotated[int, msgspec.Meta(extra_json_schema={"format": "int32"})]
    detail: str
    errors: tuple[FieldError, ...] = ()
    correlation_id: str | None = None


class Problem(Exception):  # noqa: N818 - the field's own word (RFC 9457)
    """Raised to answer a request with a problem document.

    Args:
        kind: The problem's type, title and status.
        detail: The text that says what is wrong with this request.
        errors: The faulty fields.
        headers: Headers of the answer, such as ``Retry-After``.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def body(self, correlation_id: str | None = None) -> ProblemBody:
        """Return the problem document."""
        return ProblemBody(
            type=self.kind.uri,
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            errors=self.errors,
            correlation_id=correlation_id,
        )


_kinds: dict[str, ProblemKind] = {}


def kinds() -> Mapping[str, ProblemKind]:
    """Return every problem type by name."""
    return _kinds


def _kind(name: str, status: HTTPStatus, title: str, remedy: str) -> ProblemKind:
    kind = _kinds[name] = ProblemKind(name, int(status), title, remedy)
    return kind


MALFORMED_REQUEST = _kind(
    "malformed-request",
    HTTPStatus.BAD_REQUEST,
    "These bytes are not one HTTP/1.1 request",
    "`detail` says what is wrong. A request that two servers could read in two ways is refused, "
    "and its connection closed.",
)
TARGET_TOO_LONG = _kind(
    "target-too-long",
    HTTPStatus.REQUEST_URI_TOO_LONG,
    "The request target is too long",
    "`detail` names the limit. Send a shorter path and query.",
)
HEAD_TOO_LARGE = _kind(
    "head-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The request's head is too large",
    "`detail` names the limit. Send fewer or shorter headers.",
)
NOT_IMPLEMENTED = _kind(
    "not-implemented",
    HTTPStatus.NOT_IMPLEMENTED,
    "This part of HTTP is not supported",
    "`detail` names it and what to send instead.",
)
VERSION = _kind(
    "version-not-supported",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    "This version of HTTP is not supported",
    "Send HTTP/1.1. A proxy in front can speak other versions with its clients.",
)
MALFORMED = _kind(
    "malformed-body",
    HTTPStatus.BAD_REQUEST,
    "The body is not what its content type says",
    "Send well-formed JSON (or NDJSON) in UTF-8, each name once in an object.",
)
DIGEST = _kind(
    "digest-mismatch",
    HTTPStatus.BAD_REQUEST,
    "The content is not what its digest says",
    "It was damaged on the way, or the digest is of something else. Send it again.",
)
INVALID = _kind(
    "invalid-fields",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Some fields can't be accepted",
    "Each entry of `errors` names a field, what is wrong with it and what to send instead.",
)
KEY_CONFLICT = _kind(
    "idempotency-conflict",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The key was used before for another body",
    "Nothing was enqueued. Send the first body again to get its answer, or use a new "
    "clientMessageId for a new message.",
)
UNAUTHENTICATED = _kind(
    "unauthenticated",
    HTTPStatus.UNAUTHORIZED,
    "An API key is needed",
    "Send a key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.",
)
FORBIDDEN = _kind(
    "forbidden",
    HTTPStatus.FORBIDDEN,
    "This API key may not do that",
    "Use a key that has the scope, or the prefix, named in `detail`.",
)
FOREIGN = _kind(
    "foreign-page",
    HTTPStatus.FORBIDDEN,
    "A page of another site sent this request",
    "A request that a browser sends for a page of another site is refused, unless a header has a "
    "key. A proxy in front has to leave `Host` as the browser sent it.",
)
MISDIRECTED = _kind(
    "misdirected",
    HTTPStatus.MISDIRECTED_REQUEST,
    "The service is not known by this host name",
    "Send a host name that the service knows. `detail` says how the operator adds one.",
)
NOT_FOUND = _kind(
    "not-found",
    HTTPStatus.NOT_FOUND,
    "Nothing was found at this address",
    "Check the path and the id in it.",
)
GONE = _kind(
    "gone",
    HTTPStatus.GONE,
    "The message was archived or erased",
    "`detail` says which. Its id and its time of acceptance are still known (`GET "
    "/api/messages/{id}`); its content and its receipts are gone.",
)
METHOD = _kind(
    "method-not-allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "This path does not take that method",
    "Use a method listed in the `Allow` header.",
)
TIMED_OUT = _kind(
    "request-timeout",
    HTTPStatus.REQUEST_TIMEOUT,
    "The request did not arrive in time",
    "Send head and body without pauses. A POST may be retried with the same key.",
)
STATE = _kind(
    "conflicting-state",
    HTTPStatus.CONFLICT,
    "The present state does not allow this",
    "`detail` says which state stands in the way and what would change it.",
)
TOO_LARGE = _kind(
    "too-large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The body is too large",
    "`detail` names the limit. Send smaller batches, or keep large payloads elsewhere and send "
    "a reference.",
)
RANGE = _kind(
    "range-not-satisfiable",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "The content does not have these bytes",
    "`Content-Range` says how many bytes there are. Ask for some of those.",
)
MEDIA = _kind(
    "unsupported-media-type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The body's media type is not taken here",
    "Send the media type named in `detail`, as it is or compressed as `Accept-Encoding` says.",
)
OVERLOADED = _kind(
    "overloaded",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "More messages are waiting than the log can take",
    "Nothing of this request was enqueued. Retry after the seconds in `Retry-After`.",
)
TOO_MANY_CONNECTIONS = _kind(
    "too-many-connections",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many connections are open",
    "Nothing of this request was read. Retry after the seconds in `Retry-After`.",
)
PAYLOAD_DAMAGED = _kind(
    "payload-damaged",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The content of this message is missing or damaged",
    "The payload store lost it, or has other bytes. Retry once the operator has restored it from a "
    "backup of the store; `crossfade payloads verify` finds all such messages.",
)
LOG_UNAVAILABLE = _kind(
    "log-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The log can't take messages now",
    "Nothing of this message was enqueued. Retry after the seconds in `Retry-After`.",
)
OUTCOME_UNKNOWN = _kind(
    "outcome-unknown",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "It is unknown whether the message was accepted",
    "Retry with the same clientMessageId (or Idempotency-Key) after the seconds in `Retry-After`: "
    "it can't be doubled, and a new key could double it.",
)
PAYLOADS_UNAVAILABLE = _kind(
    "payloads-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The payload store can't take or give content now",
    "Nothing of this message was enqueued. Retry with the same key after the seconds in "
    "`Retry-After`. Messages with small content are accepted meanwhile.",
)
DATABASE_UNAVAILABLE = _kind(
    "database-unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The database can't answer now",
    "Retry after the seconds in `Retry-After`.",
)
INTERNAL = _kind(
    "internal",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "This service made a mistake",
    "Report the correlation id to the operator. A POST may be retried with the same key.",
)
