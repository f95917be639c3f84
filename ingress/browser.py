"""Callers that are browsers: the console's session, and requests that other sites make them send.

A browser can't be told to put a key into every request, so the console hands its key in once and
the browser keeps it in a cookie that no script can read (``HttpOnly``) and no other site can have
sent along (``SameSite=Strict``). The cookie holds the key itself: there is no session to share
between processes or to lose with PostgreSQL, and a key that is taken away ends its sessions.

What a browser sends by itself proves nothing about who asked for it. So a request that changes
something and names no key in a header must come from a page of this service. ``Sec-Fetch-Site`` or
``Origin`` say so, which pages can't forge; and, with the cookie, a header no other site may set.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urlsplit

from ingress.auth import ApiKey, Authenticator, Scope
from ingress.headers import Headers
from ingress.problems import FORBIDDEN, Problem
from ingress.settings import is_loopback

__all__ = ["COOKIE", "MARK", "cookie", "expired_cookie", "visitor"]

COOKIE = "crossfade_console"
MARK = b"x-crossfade-console"
"""The header that every request of the console carries. A form can't, nor another site's script."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_LONGEST = 4_096
_OURS = re.compile(rb"(?:^|;)[ \t]*%b=([^;]{1,%d})(?:;|$)" % (COOKIE.encode(), _LONGEST))


def visitor(auth: Authenticator, method: str, headers: Headers, *scopes: Scope) -> ApiKey | None:
    """Return the key that a request may use one of ``scopes`` with, ``None`` where none is needed.

    Raises:
        Problem: no key, an unknown one (401), one without the scope, or another site's doing (403).
    """
    if b"authorization" in headers or b"x-api-key" in headers:
        return auth.check(headers, *scopes)
    held = _held(headers)
    guarded = held is not None or Scope.ADMIN in scopes
    if guarded and method not in _SAFE:
        _same_site(headers, marked=held is not None)
    if guarded and auth.loopback_only:
        _known_name(headers)
    return auth.check({**headers, b"x-api-key": held} if held else headers, *scopes)


def cookie(key: bytes, headers: Headers) -> str:
    """Return the ``Set-Cookie`` that makes a browser hold ``key`` until it is closed."""
    value = urlsafe_b64encode(key).decode().rstrip("=")
    return f"{COOKIE}={value}; {_attributes(headers)}"


def expired_cookie(headers: Headers) -> str:
    """Return the ``Set-Cookie`` that makes it forget."""
    return f"{COOKIE}=; Max-Age=0; {_attributes(headers)}"


def _attributes(headers: Headers) -> str:
    # TLS ends at the proxy; what the browser itself used is in its Origin.
    secure = "; Secure" if headers.get(b"origin", b"").startswith(b"https://") else ""
    return f"Path=/; HttpOnly; SameSite=Strict{secure}"


def _held(headers: Headers) -> bytes | None:
    # One search over all of the header: it may hold tens of thousands of other cookies.
    found = _OURS.search(headers.get(b"cookie", b""))
    if found is None:
        return None
    value: bytes = found[1].strip()
    try:
        return urlsafe_b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        return b"?"  # no key there is; the answer says so


def _same_site(headers: Headers, *, marked: bool) -> None:
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is not None:
        ours = site in {b"same-origin", b"none"}
    elif origin is not None:
        ours = origin.partition(b"//")[2] == headers.get(b"host", b"")
    else:
        ours = True
    if not ours or (marked and MARK not in headers):
        raise Problem(
            FORBIDDEN,
            "Another site's page sent this, or a proxy changed Host: only the console's own pages "
            "may change something without naming a key.",
        )


def _known_name(headers: Headers) -> None:
    """Refuse names that somebody else may have pointed at this machine (DNS rebinding)."""
    host = headers.get(b"host", b"").decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if host and not is_loopback(name):
        raise Problem(
            FORBIDDEN,
            f"No API keys are configured, so this is for this machine only, by the name localhost; "
            f"it was asked for as {name[:100]!r}. Configure API_KEYS, or set API_KEYS_WAIVED=true.",
        )
