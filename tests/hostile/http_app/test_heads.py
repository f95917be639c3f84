"""No head holds the event loop for long: the largest paths, queries and headers that are read."""

from __future__ import annotations

from ingress.web.browser import COOKIE
from tests.ingress.conftest import Start
from tests.support.blocked import watching
from tests.support.raw_client import RawClient

GOAL = 20.0
BOUND = 100.0
LONG = 60_000
TARGET = 8_000
ID = "00000000-0000-8000-8000-000000000001"


def asked(target: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(target: str, *headers: str) -> bytes:
    kind = ("Content-Type: application/json", "Content-Length: 2")
    return asked(target, *kind, *headers, method="POST") + b"{}"


def cookies(*, times: int) -> str:
    return f"Cookie: {'; '.join([f'{COOKIE}=' + ' ' * 4000] * times)[:LONG]}"


REQUESTS = {
    "many parameters": asked("/api/dead-letters?" + "a&" * (TARGET // 2)),
    "one parameter again and again": asked("/api/dead-letters?" + "limit=1&" * (TARGET // 8)),
    "escapes in a parameter": asked("/api/console/search?q=" + "%F0" * (TARGET // 3)),
    "a long search": asked("/api/console/search?q=" + "%F0%9F%98%80" * 256),
    "wildcards in a search": asked("/api/console/search?q=" + "%25_" * 64),
    "a long cursor": asked("/api/conversations/c/messages?after=" + "A" * 7_000),
    "no cursor of ours": asked("/api/conversations/c/messages?after=" + "_" * 64),
    "a long conversation": asked("/api/conversations/" + "x" * 7_000 + "/messages"),
    "slashes": asked("/" * TARGET),
    "dots": asked("/api" + "/.." * (TARGET // 3)),
    "no such path": asked("/api/messages/" + "a" * 7_000, method="OPTIONS"),
    "semicolons for cookies": asked(f"/api/messages/{ID}", "Cookie: " + ";" * LONG),
    "many cookies": asked(f"/api/messages/{ID}", "Cookie: " + "a=b; " * (LONG // 5)),
    "our cookie again and again": asked(f"/api/messages/{ID}", cookies(times=15)),
    "a long key": asked(f"/api/messages/{ID}", f"Authorization: Bearer {'x' * LONG}"),
    "a long correlation id": post("/api/messages", f"X-Correlation-ID: {'a' * LONG}"),
    "backslashes in a key": post("/api/messages", f'Idempotency-Key: "{chr(92) * (LONG + 1)}"'),
    "a long bare key": post("/api/messages", f"Idempotency-Key: {'a' * LONG}"),
    "parameters of a media type": post(
        "/api/messages", f"Content-Type: a/b{'; a=b' * (LONG // 5)}"
    ),
    "a long trace context": post("/api/messages", f"traceparent: {'0-' * (LONG // 2)}"),
    "a long trace state": post("/api/messages", f"tracestate: {'a=b,' * (LONG // 4)}"),
    "tags that may match": asked("/console/app.js", f"If-None-Match: {'W/,' * (LONG // 3)}"),
}


async def test_no_head_holds_the_loop(start: Start, client: RawClient) -> None:
    service = await start()
    figures = []
    for name, request in REQUESTS.items():
        client.prepare(request)
        with watching() as blocked:
            answer = await client.send(service.port)
        assert 200 <= answer.status < 500, (name, answer)
        assert len(answer.body) < 20_000 or answer.status == 200, name
        figures.append((blocked.longest, f"{name}: {answer.status}, {blocked.by}"))
    for took, said in sorted(figures, reverse=True):
        print(f"{took:8.1f} ms  {said}")  # noqa: T201 - figures for `pytest -s`
    assert max(figures)[0] < BOUND, max(figures)
