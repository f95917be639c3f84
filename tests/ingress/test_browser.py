"""What a browser sends by itself is believed only from a page of this service."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from ingress.schema.problems import Problem
from ingress.settings import IngressSettings
from ingress.web.auth import Authenticator, Scope
from ingress.web.browser import COOKIE, Guard, cookie, request_key
from ingress.web.hosts import Hosts

KEY = b"cf_console"
KEYED = Authenticator(
    IngressSettings(api_keys=f"ops:admin+read:{sha256(KEY).hexdigest()}")  # type: ignore[arg-type]
)
HOST = {b"host": b"localhost:3000"}
MARKED = {b"x-crossfade-console": b"1"}
HELD = {b"cookie": cookie(KEY, {}).partition(";")[0].encode()}


def allowed(auth: Authenticator, method: str, headers: dict[bytes, bytes]) -> bool:
    try:
        request_key(auth, method, headers, Scope.ADMIN)
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


def test_the_cookie_counts_beside_the_password_that_a_proxy_asks_for() -> None:
    """A browser sends it with every request, and nginx passes it on."""
    behind = HOST | HELD | {b"authorization": b"Basic b3BzOnB3"}
    assert allowed(KEYED, "GET", behind)
    assert allowed(KEYED, "POST", behind | MARKED)
    assert not allowed(KEYED, "POST", behind)


def guard(**settings: Any) -> Guard:
    given = IngressSettings(**settings)
    return Guard(Hosts(given, guarded=True), keys_required=False)


def refused(guard: Guard, headers: dict[bytes, bytes], *, changes: bool = False) -> int | None:
    try:
        guard.check(headers, changes=changes)
    except Problem as problem:
        return problem.kind.status
    return None


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:3000", "localhost.", "app.localhost:80", "127.0.0.1:3000",
        "127.9.9.9", "[::1]:3000", "[::1]", "10.1.2.3", "192.168.1.7:3000", "[fd00::1]:3000",
        "localhost:",
    ],
)  # fmt: skip
def test_without_keys_addresses_and_localhost_are_answered(host: str) -> None:
    assert refused(guard(), {b"host": host.encode()}) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example",
        "evillocalhost", "127.1", "0x7f000001", "2130706433", "localhost@evil.example",
        "evil.example@localhost", "app", "", ":", ":3000", "[::1", "[::1]x", "localhost:x",
        "localhost:3000:3000", "local\xadhost", ".localhost.evil.example", "127.0.0.1 evil",
    ],
)  # fmt: skip
def test_without_keys_no_other_name_is_answered(host: str) -> None:
    assert refused(guard(), {b"host": host.encode("latin-1")}) == 421


def test_a_waiver_names_its_hosts() -> None:
    waived = guard(host="0.0.0.0", api_keys_waived=True, ingress_allowed_hosts="app, Api.test ,")
    for host in (b"app:3000", b"api.test", b"API.TEST:80", b"127.0.0.1"):
        assert refused(waived, {b"host": host}) is None
    for host in (b"evil.example", b"x.api.test", b"api.test.evil.example"):
        assert refused(waived, {b"host": host}) == 421
    every = guard(host="0.0.0.0", api_keys_waived=True, ingress_allowed_hosts="*")
    assert refused(every, {b"host": b"evil.example"}) is None


def test_a_name_that_is_listened_on_is_answered() -> None:
    named = guard(host="gateway.test", api_keys_waived=True)
    assert refused(named, {b"host": b"gateway.test:3000"}) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({b"sec-fetch-site": b"same-origin"}, None),
        ({b"sec-fetch-site": b"none"}, None),
        ({b"origin": b"http://localhost:3000"}, None),
        ({b"origin": b"http://evil.example"}, 403),
        ({b"origin": b"http://localhost:3001"}, 403),
        ({b"origin": b"null"}, 403),
        ({b"sec-fetch-site": b"cross-site"}, 403),
        ({b"sec-fetch-site": b"same-site"}, 403),
    ],
)
@pytest.mark.parametrize("hosts", ["", "*"])
def test_without_keys_only_our_own_pages_change_anything(
    hosts: str, headers: dict[bytes, bytes], status: int | None
) -> None:
    given = guard(ingress_allowed_hosts=hosts)
    assert refused(given, HOST | headers, changes=True) == status
    assert refused(given, HOST | headers) is None


def test_what_is_remembered_of_names_is_bounded() -> None:
    hosts = Hosts(IngressSettings(), guarded=True)
    for number in range(1000):
        hosts.check({b"host": b"n%d.localhost" % number})
    assert hosts.remembered <= 256


def test_the_cookie_is_for_the_browser_alone_and_for_tls_where_the_browser_used_it() -> None:
    plain = cookie(KEY, HOST)
    assert plain.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict"} <= set(plain.split("; "))
    assert KEY.decode() not in plain
    assert cookie(KEY, {b"origin": b"https://ops.test"}).endswith("; Secure")


@pytest.mark.parametrize("value", ["", "=", "%%%", "a" * 5000, "Y2Zf"])
def test_a_cookie_that_holds_no_key_of_ours_is_refused(value: str) -> None:
    with pytest.raises(Problem) as refused:
        request_key(KEYED, "GET", {b"cookie": f"{COOKIE}={value}".encode()}, Scope.READ)
    assert refused.value.kind.status == 401
