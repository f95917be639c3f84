"""Protection of requests that browsers send: the console's session cookie, and cross-site checks.

A browser does not put a key into every request by itself, so the console hands its key in once, and
the browser keeps it in a cookie. No script can read the cookie (``HttpOnly``), and requests of
other sites do not carry it (``SameSite=Strict``). The cookie holds the key itself: no session has
to be shared between processes or can be lost with PostgreSQL, and removing a key ends its sessions.

A browser sends a cookie with a request whichever page made the request. So a request that changes
something and has no key in a header must come from a page of this service. ``Sec-Fetch-Site`` or
``Origin`` say where it comes from, and pages can't forge them. With the cookie, the request also
needs a header that no other site may set. If no keys are needed, ``Guard`` checks the origin of
every request that changes something, and the host name of every request.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ingress.schema.problems import FOREIGN, MALFORMED_REQUEST, Problem
from ingress.web.auth import ApiKey, Authenticator, Scope, sent_key
from ingress.web.headers import Headers
from ingress.web.hosts import Hosts

__all__ = [
    "COOKIE",
    "MARK",
    "SAFE",
    "Guard",
    "cookie",
    "expired_cookie",
    "request_key",
    "same_site",
]

COOKIE = "crossfade_console"
MARK = b"x-crossfade-console"
"""The header of every request of the console. Forms and other sites' scripts can't set it."""

SAFE = {"GET", "HEAD", "OPTIONS"}
"""The methods that change nothing (RFC 9110, section 9.2.1)."""
_LONGEST = 4_096
_OURS = re.compile(rb"(?:^|;)[ \t]*%b=([^;]{1,%d})(?=;|$)" % (COOKIE.encode(), _LONGEST))


class Guard:
    """Protects all routes while no keys are needed. With keys, it lets all requests through."""

    def __init__(self, hosts: Hosts, *, keys_required: bool) -> None:
        self._hosts = hosts
        self.needed = not keys_required

    def check(self, headers: Headers, *, changes: bool) -> None:
        """Refuse a request for an unknown host name, or one that another site's page sent.

        Args:
            headers: The request's headers.
            changes: Whether the request may change something; only then is its origin checked.

        Raises:
            Problem: The host name is unknown (421), or another site's page sent the request (403).
        """
        if self.needed:
            self._hosts.check(headers)
            if changes and (b"origin" in headers or b"sec-fetch-site" in headers):
                same_site(headers)


def request_key(
    auth: Authenticator, method: str, headers: Headers, *scopes: Scope, limited: bool = False
) -> ApiKey | None:
    """Return the request's key, from a header or the cookie, or ``None`` if no keys are needed.

    Args:
        auth: Knows the keys.
        method: The request's method.
        headers: The request's headers.
        scopes: The key needs one of these.
        limited: Whether a key with a prefix is allowed; see ``Authenticator.check``.

    Raises:
        Problem: The request has two keys (400), no key or an unknown one (401), the key does not
            allow this, or another site's page sent the request (403).
    """
    if sent_key(headers) is not None:
        return auth.check(headers, *scopes, limited=limited)
    held = _held(headers)
    if held is not None and method not in SAFE:
        same_site(headers, marked=True)
    given = {**headers, b"x-api-key": held} if held else headers
    return auth.check(given, *scopes, limited=limited)


def cookie(key: bytes, headers: Headers) -> str:
    """Return the ``Set-Cookie`` that makes the browser keep ``key`` until the browser is closed."""
    value = urlsafe_b64encode(key).decode().rstrip("=")
    return f"{COOKIE}={value}; {_attributes(headers)}"


def expired_cookie(headers: Headers) -> str:
    """Return the ``Set-Cookie`` that makes the browser forget the key."""
    return f"{COOKIE}=; Max-Age=0; {_attributes(headers)}"


def _attributes(headers: Headers) -> str:
    # TLS ends at the proxy; the browser's Origin says whether the browser itself used https.
    secure = "; Secure" if headers.get(b"origin", b"").startswith(b"https://") else ""
    return f"Path=/; HttpOnly; SameSite=Strict{secure}"


def _held(headers: Headers) -> bytes | None:
    # One search over the whole header: it may hold tens of thousands of other cookies.
    found = {value.strip() for value in _OURS.findall(headers.get(b"cookie", b""))}
    if not found:
        return None
    if len(found) > 1:
        detail = f"Two cookies {COOKIE} have different keys. Send one: delete this site's cookies."
        raise Problem(MALFORMED_REQUEST, detail)
    value: bytes = found.pop()
    try:
        return urlsafe_b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        return b"?"  # this is no known key, so the answer is 401


def same_site(headers: Headers, *, marked: bool = False) -> None:
    """Refuse a request that another site's page sent, as its headers tell.

    Args:
        headers: The request's headers.
        marked: Whether the request needs the console's own header (``MARK``) too.

    Raises:
        Problem: Another site's page sent the request, or the header is missing (403).
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
            "A page of another site sent this request, or a proxy changed Host: only the "
            "console's own pages may change something without naming a key.",
        )
