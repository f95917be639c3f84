"""What a browser sends by itself is believed only from a page of this service."""

from __future__ import annotations

from hashlib import sha256

import pytest

from ingress.auth import Authenticator, Scope
from ingress.browser import COOKIE, cookie, visitor
from ingress.problems import Problem
from ingress.settings import IngressSettings

KEY = b"cf_console"
KEYED = Authenticator(
    IngressSettings(api_keys=f"ops:admin+read:{sha256(KEY).hexdigest()}")  # type: ignore[arg-type]
)
KEYLESS = Authenticator(IngressSettings())
HOST = {b"host": b"localhost:3000"}
MARKED = {b"x-crossfade-console": b"1"}
HELD = {b"cookie": cookie(KEY, {}).partition(";")[0].encode()}


def allowed(auth: Authenticator, method: str, headers: dict[bytes, bytes]) -> bool:
    try:
        visitor(auth, method, headers, Scope.ADMIN)
    except Problem as problem:
        assert problem.kind.status == 403
        return False
    return True


@pytest.mark.parametrize(
    ("more", "may"),
    [
        ({}, False),
        (MARKED, True),  # no browser tells where it comes from: none of today's
        (MARKED | {b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"same-origin"}, False),
        (MARKED | {b"sec-fetch-site": b"same-site"}, False),
        (MARKED | {b"sec-fetch-site": b"cross-site"}, False),
        (MARKED | {b"origin": b"http://localhost:3000"}, True),
        (MARKED | {b"origin": b"http://localhost:3001"}, False),
        (MARKED | {b"origin": b"null"}, False),
    ],
)
def test_a_cookie_acts_only_from_our_own_page(more: dict[bytes, bytes], may: bool) -> None:
    assert allowed(KEYED, "POST", HOST | HELD | more) is may
    assert allowed(KEYED, "GET", HOST | HELD | more)  # to read is safe: no other site sees it


def test_a_key_in_a_header_is_no_browsers_doing() -> None:
    assert allowed(KEYED, "POST", HOST | {b"x-api-key": KEY, b"origin": b"http://evil.test"})


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        (HOST, True),
        ({b"host": b"127.0.0.1:3000"}, True),
        ({b"host": b"[::1]:3000"}, True),
        ({b"host": b"rebound.evil.test:3000"}, False),
        (HOST | {b"origin": b"http://evil.test"}, False),
        (HOST | {b"sec-fetch-site": b"cross-site"}, False),
    ],
)
def test_without_keys_only_this_machine_acts(headers: dict[bytes, bytes], may: bool) -> None:
    assert allowed(KEYLESS, "POST", headers) is may


def test_without_keys_a_name_pointed_here_does_not_even_read() -> None:
    assert not allowed(KEYLESS, "GET", {b"host": b"rebound.evil.test"})


def test_the_cookie_is_for_the_browser_alone_and_for_tls_where_the_browser_used_it() -> None:
    plain = cookie(KEY, HOST)
    assert plain.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict"} <= set(plain.split("; "))
    assert KEY.decode() not in plain
    assert cookie(KEY, {b"origin": b"https://ops.test"}).endswith("; Secure")


@pytest.mark.parametrize("value", ["", "=", "%%%", "a" * 5000, "Y2Zf"])
def test_a_cookie_that_holds_no_key_of_ours_is_refused(value: str) -> None:
    with pytest.raises(Problem) as refused:
        visitor(KEYED, "GET", {b"cookie": f"{COOKIE}={value}".encode()}, Scope.READ)
    assert refused.value.kind.status == 401
