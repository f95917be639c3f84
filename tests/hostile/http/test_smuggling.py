"""Nothing that two parsers could read in two ways is read at all, and nothing after it."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.openapi import CONSOLE_PATH, PATH
from tests.hostile.http.conftest import exchange
from tests.hostile.http.smuggling import HIDDEN, REFUSED, SERVED, Served


@pytest.mark.parametrize("stream", REFUSED.values(), ids=REFUSED)
async def test_what_is_ambiguous_is_refused_and_nothing_after_it_is_answered(
    port: int, split: Any, stream: bytes
) -> None:
    for pieces in split(stream):
        found, closed = await exchange(port, pieces)
        assert len(found) == 1
        assert found[0].status in {400, 501, 505}
        assert closed
        assert found[0].headers["connection"] == "close"


@pytest.mark.parametrize("stream", REFUSED.values(), ids=REFUSED)
async def test_what_came_before_it_is_answered(port: int, stream: bytes) -> None:
    found, closed = await exchange(port, [HIDDEN + stream])
    assert [answer.status for answer in found[:1]] == [200]
    assert [answer.status // 100 for answer in found[1:]] in ([4], [5])
    assert closed


@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED)
async def test_what_is_clear_is_served_as_it_stands(port: int, split: Any, served: Served) -> None:
    for pieces in split(served.stream):
        found, _ = await exchange(port, pieces)
        assert len(found) == len(served.requests)
        assert all(answer.status < 500 for answer in found)


@pytest.mark.parametrize("identifier", [b"caf%E9", b"%FF", b"%ED%A0%80"])
async def test_a_path_that_is_not_utf_8_is_refused(port: int, identifier: bytes) -> None:
    """Many such ids would be read as one, whose conversation is empty."""
    path = b"/api/conversations/%b/messages" % identifier
    got, _ = await exchange(port, [b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path])
    assert [answer.status for answer in got] == [400]
    assert b"UTF-8" in got[0].body


async def test_options_for_the_server_as_a_whole_names_every_method(port: int) -> None:
    """RFC 9110, section 9.3.7: the asterisk is no path."""
    found, closed = await exchange(port, [b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert [(answer.status, answer.body, closed) for answer in found] == [(204, b"", False)]
    served = {"HEAD", "OPTIONS"}
    for path in (PATH, CONSOLE_PATH):
        (document,), _ = await exchange(
            port, [b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()]
        )
        served |= {name.upper() for methods in document.json["paths"].values() for name in methods}
    assert found[0].headers["allow"] == ", ".join(sorted(served))
