"""Callers that are browsers: the console's session, and requests that other sites make them send.

A browser can't be told to put a key into every request, so the console hands its key in once and
the browser keeps it in a cookie that no script can read (``HttpOnly``) and no other site can have
sent along (``SameSite=Strict``). The cookie holds the key itself: there is no session to share
between processes or to lose with PostgreSQL, and a key that is taken away ends its sessions.

What a browser sends by itself proves nothing about who asked for it. So a request that changes
something and names no key in a header must come from a page of this service. ``Sec-Fetch-Site`` or
``Origin`` say so, which pages can't forge; and, with the cookie, a header no other site may set.
Where no keys are needed, ``Guard`` asks that of every request, and by which name it comes.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ingress.schema.problems import FOREIGN, Problem
from ingress.web.auth import ApiKey, Authenticator, Scope
from ingress.web.headers import Headers
from ingress.web.hosts import Hosts

__all__ = ["COOKIE", "MARK", "SAFE", "Guard", "cookie", "expired_cookie", "same_site", "visitor"]

COOKIE = "crossfade_console"
MARK = b"x-crossfade-console"
"""The header that every request of the console carries. A form can't, nor another site's script."""

SAFE = {"GET", "HEAD", "OPTIONS"}
"""The methods that change nothing (RFC 9110, section 9.2.1)."""
_LONGEST = 4_096
_OURS = re.compile(rb"(?:^|;)[ \t]*%b=([^;]{1,%d})(?:;|$)" % (COOKIE.encode(), _LONGEST))


class Guard:
    """Guards every route if no keys are needed; otherwise it lets all requests through."""

    def __init__(self, hosts: Hosts, *, keys_required: bool) -> None:
        self._hosts = hosts
        self.needed = not keys_required

    def check(self, headers: Headers, *, changes: bool) -> None:
        """Refuse a request by an unknown name, or sent by another site.

        Raises:
            Problem: it is one of these (421, 403).
        """
        if self.needed:
            self._hosts.check(headers)
            if changes and (b"origin" in headers or b"sec-fetch-site" in headers):
                same_site(headers)


def visitor(
    auth: Authenticator, method: str, headers: Headers, *scopes: Scope, limited: bool = False
) -> ApiKey | None:
    """Return the key that a request may use one of ``scopes`` with, ``None`` where none is needed.

    ``limited`` is as for ``check``.

    Raises:
        Problem: no key, an unknown one (401), one that may not do this, or another site's doing
            (403).
    """
    if b"authorization" in headers or b"x-api-key" in headers:
        return auth.check(headers, *scopes, limited=limited)
    held = _held(headers)
    if held is not None and method not in SAFE:
        same_site(headers, marked=True)
    given = {**headers, b"x-api-key": held} if held else headers
    return auth.check(given, *scopes, limited=limited)


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


def same_site(headers: Headers, *, marked: bool = False) -> None:
    """Refuse a request that changes something if another site sent it.

    With ``marked`` it has to carry the console's own header too.

    Raises:
        Problem: it is another site's, as far as its headers say.
    """
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
            FOREIGN,
            "Another site's page sent this, or a proxy changed Host: only the console's own pages "
            "may change something without naming a key.",
        )
