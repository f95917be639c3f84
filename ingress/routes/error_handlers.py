"""Error handlers of FastAPI's routes: every error becomes a problem document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ingress.routes.failure_log import FailureLog
from ingress.routes.field_faults import field_fault
from ingress.routes.near_paths import near_path
from ingress.schema.json_faults import malformed
from ingress.schema.problems import (
    DATABASE_UNAVAILABLE,
    INTERNAL,
    LOG_UNAVAILABLE,
    MEDIA_TYPE,
    METHOD,
    NOT_FOUND,
    OUTCOME_UNKNOWN,
    PAYLOAD_DAMAGED,
    PAYLOADS_UNAVAILABLE,
    TOO_LARGE,
    Problem,
    ProblemKind,
)
from ingress.schema.responses import encode
from ingress.schema.retry_after import AWAY
from ingress.schema.validation_errors import MOST_ERRORS, field_problem
from ingress.web.headers import correlation_id
from persistence.errors import Outage, TooSlow
from persistence.payloads.errors import PayloadCorrupt, PayloadMissing, PayloadOutage
from transport.errors import TransportError, TransportUnavailable

__all__ = ["allowed_methods", "install"]

_METRICS = "/metrics"
_UNAVAILABLE = 503
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def install(app: FastAPI) -> None:
    """Add handlers to ``app`` that answer every error with a problem document."""
    failures = _Failures()
    handlers: dict[Any, Any] = {
        Problem: _problem,
        HTTPException: _http,
        RequestValidationError: _invalid,
        Outage: failures.database,
        PayloadOutage: failures.payloads,
        PayloadMissing: failures.damaged,
        PayloadCorrupt: failures.damaged,
        TimeoutError: failures.database,
        TransportError: failures.transport,
        Exception: _internal,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def allowed_methods(app: FastAPI, scope: Any) -> list[str]:
    """Return the methods that ``app`` has for the path in ``scope``."""
    if scope["path"] == "*":  # RFC 9110, section 9.3.7: the server as a whole
        return ["DELETE", "GET", "HEAD", "OPTIONS", "POST"]
    # Try each method: Starlette's own 405 names only the methods of the path's first route.
    methods = [
        method
        for method in _METHODS
        if any(
            route.matches({**scope, "method": method})[0] is Match.FULL
            for route in app.router.routes
        )
    ]
    return sorted([*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])]) if methods else []


async def _problem(request: Request, problem: Problem) -> Response:
    return _response(request, problem)


async def _http(request: Request, error: HTTPException) -> Response:
    return _response(request, _of_status(request, error))


def _of_status(request: Request, error: HTTPException) -> Problem:
    path = request.url.path
    match error.status_code:
        case 404:
            return Problem(NOT_FOUND, f"Nothing is at {path[:200]}.{_suggestion(path)}")
        case 405:
            allowed = ", ".join(allowed_methods(request.app, request.scope))
            detail = f"{request.method} is not for {path[:200]}; use {allowed}.{_suggestion(path)}"
            return Problem(METHOD, detail, headers={"Allow": allowed})
        case 413:
            return Problem(TOO_LARGE, str(error.detail))
        case _:
            return malformed(str(error.detail))


def _suggestion(path: str) -> str:
    if path == _METRICS:
        return " Metrics have a port of their own: METRICS_PORT."
    near = near_path(path)
    return f" Did you mean {near}?" if near and near != path else ""


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    faults = cast("Sequence[dict[str, Any]]", error.errors())
    if any(fault["type"] == "json_invalid" for fault in faults):
        return _response(request, malformed("The body is not well-formed JSON."))
    listed = [field_fault(fault) for fault in faults[:MOST_ERRORS]]
    return _response(request, field_problem(listed, total=len(faults)))


class _Failures:
    """Answers errors of the database, the log and the payload store.

    The reason is logged, and the client does not get it.
    """

    def __init__(self) -> None:
        self._log = FailureLog()

    async def database(self, request: Request, error: Exception) -> Response:
        late = isinstance(error, TimeoutError | TooSlow)
        what = "The database did not answer in time." if late else "The database can't be asked."
        return self._failed(request, error, DATABASE_UNAVAILABLE, what)

    async def payloads(self, request: Request, error: Exception) -> Response:
        what = "The payload store did not give the content."
        return self._failed(request, error, PAYLOADS_UNAVAILABLE, what)

    async def damaged(self, request: Request, error: Exception) -> Response:
        lost = isinstance(error, PayloadMissing)
        what = "does not have the content" if lost else "has other content than was sent"
        return self._failed(request, error, PAYLOAD_DAMAGED, f"The payload store {what}.")

    async def transport(self, request: Request, error: TransportError) -> Response:
        kind = LOG_UNAVAILABLE if isinstance(error, TransportUnavailable) else OUTCOME_UNKNOWN
        return self._failed(request, error, kind, "The log did not answer.")

    def _failed(self, request: Request, error: Exception, kind: ProblemKind, what: str) -> Response:
        identifier = _correlation_id(request)
        path = request.url.path[:200]
        self._log.note(kind.name, error, path=path, correlation_id=identifier)
        headers = AWAY if kind.status == _UNAVAILABLE else None
        detail = f"{what} The service's log has the reason, under the correlation id."
        return _response(request, Problem(kind, detail, headers=headers), identifier)


async def _internal(request: Request, error: Exception) -> Response:  # noqa: ARG001 - logged by the server
    return _response(request, Problem(INTERNAL, "The request was not completed."))


def _correlation_id(request: Request) -> str:
    """Return the request's correlation id, or a new one if it has none or an invalid one."""
    try:
        given = correlation_id(dict(request.scope["headers"]))
    except Problem:
        given = None
    return given or str(uuid4())


def _response(request: Request, problem: Problem, identifier: str | None = None) -> Response:
    identifier = identifier or _correlation_id(request)
    return Response(
        encode(problem.body(identifier)),
        status_code=problem.kind.status,
        media_type=MEDIA_TYPE,
        headers={"X-Correlation-ID": identifier, **problem.headers},
    )
