"""The routes of the console's session: a cookie, hidden from scripts, that holds an API key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ingress.console.routes.models import Login, Session
from ingress.console.routes.state import Console
from ingress.routes.descriptions import json_body, problems
from ingress.schema import problems as p
from ingress.schema.problems import Problem
from ingress.web.access import OPERATE
from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.browser import cookie, expired_cookie, same_site

__all__ = ["router"]

# These routes can be called without a key.
router = APIRouter(prefix="/api/console/session", tags=["console"])


@router.get(
    "",
    summary="See which key this browser holds",
    description="Whether keys are needed, the name of the key that the browser holds, and "
    "what it may do.",
    operation_id="getSession",
)
async def get_session(request: Request, response: Response, console: Console) -> Session:
    auth = console.auth
    response.headers["Cache-Control"] = "no-store"
    if not auth.required:
        return _session(auth, None)
    try:
        key = OPERATE.key_of(auth, "GET", dict(request.scope["headers"]))
    except Problem:
        return Session(
            keys_required=True, name=None, may_read=False, may_act=False, may_produce=False
        )
    return _session(auth, key)


@router.post(
    "",
    summary="Give this browser a key to hold",
    description="The key goes into a cookie that no script can read. Any key with the scope "
    "`read` or `admin` will do.",
    operation_id="beginSession",
    dependencies=[json_body()],
    responses=problems(
        p.MALFORMED, p.INVALID, p.TOO_LARGE, p.MEDIA, p.UNAUTHENTICATED, p.FORBIDDEN, p.FOREIGN
    ),
)
async def begin_session(
    body: Login, request: Request, response: Response, console: Console
) -> Session:
    headers = dict(request.scope["headers"])
    same_site(headers)
    auth = console.auth
    if not auth.required:
        return _session(auth, None)
    secret = body.key.encode()
    key = OPERATE.key_of(auth, "POST", {b"x-api-key": secret})
    response.headers["Set-Cookie"] = cookie(secret, headers)
    response.headers["Cache-Control"] = "no-store"
    return _session(auth, key)


@router.delete(
    "",
    status_code=204,
    summary="Make this browser forget its key",
    description="The cookie is removed. The key itself stays valid.",
    operation_id="endSession",
    responses=problems(p.FOREIGN),
)
async def end_session(request: Request) -> Response:
    headers = dict(request.scope["headers"])
    same_site(headers)
    forget = expired_cookie(headers)
    return Response(status_code=204, headers={"Set-Cookie": forget})


def _session(auth: Authenticator, key: ApiKey | None) -> Session:
    scopes = key.scopes if key else frozenset(Scope)
    return Session(
        keys_required=auth.required,
        name=key.name if key else None,
        may_read=Scope.READ in scopes,
        may_act=Scope.ADMIN in scopes,
        may_produce={Scope.ADMIN, Scope.PRODUCE} <= scopes,
    )
