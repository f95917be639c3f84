"""A request names one key. Two of them are refused, and neither is chosen in silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from ingress.web.browser import cookie
from tests.hostile.http.conftest import DOORS, exchange, ingress, post

_KEYS = {"good": b"cf_good", "other": b"cf_other"}
_BEARERS = [f"Authorization: Bearer {key.decode()}" for key in _KEYS.values()]
_NAMED = [f"X-API-Key: {key.decode()}" for key in _KEYS.values()]
_COOKIES = [cookie(key, {}).partition(";")[0] for key in _KEYS.values()]
_PATHS = {
    "message": post,
    "batch": lambda *lines: post(*lines, content=b"[]", path="/api/messages:batch"),
    "console": lambda *lines: "\r\n".join(
        ["GET /api/console/status HTTP/1.1", "Host: x", *lines, "", ""]
    ).encode(),
}


@pytest.fixture(params=DOORS)
async def keyed(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of an ingress that knows two keys."""
    keys = [f"{name}:produce+read:{sha256(key).hexdigest()}" for name, key in _KEYS.items()]
    async with ingress(request.param, api_keys=",".join(keys)) as port:
        yield port


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (_BEARERS, "authorization"),
        ([_BEARERS[0], _BEARERS[0]], "authorization"),
        (["Authorization: Basic b3BzOnB3", _BEARERS[0]], "authorization"),
        (_NAMED, "x-api-key"),
        ([_BEARERS[0], _NAMED[1]], "Authorization and X-API-Key"),
    ],
    ids=["two_bearers", "one_bearer_twice", "basic_and_bearer", "two_names", "one_of_each"],
)
async def test_two_keys_are_refused_with_the_header_and_the_remedy(
    keyed: int, path: str, lines: list[str], named: str
) -> None:
    for given in (lines, lines[::-1]):
        (answer, *_), _ = await exchange(keyed, [_PATHS[path](*given)])
        assert (answer.status, answer.json["type"]) == (400, "/problems/malformed-request")
        assert named in answer.json["detail"]
        assert "Send one" in answer.json["detail"]


@pytest.mark.parametrize("lines", [_COOKIES, _COOKIES[::-1]])
@pytest.mark.parametrize("separator", ["; ", "\r\nCookie: "], ids=["one_line", "two_lines"])
async def test_two_keys_in_cookies_are_refused(
    keyed: int, lines: list[str], separator: str
) -> None:
    asked = _PATHS["console"](f"Cookie: a=b; {separator.join(lines)}; c=d")
    (answer, *_), _ = await exchange(keyed, [asked])
    assert (answer.status, answer.json["type"]) == (400, "/problems/malformed-request")
    assert "cookie" in answer.json["detail"].lower()
    assert "Send one" in answer.json["detail"]


async def test_one_key_is_taken_whatever_other_credentials_a_proxy_sends(keyed: int) -> None:
    basic = "Authorization: Basic b3BzOnB3"
    for lines in ([_BEARERS[0]], [_NAMED[0]], [basic, _NAMED[0]], [_BEARERS[0], _NAMED[0]]):
        (answer, *_), _ = await exchange(keyed, [_PATHS["message"](*lines)])
        assert answer.status in {200, 202}
