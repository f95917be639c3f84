"""No body, however large or odd, holds the event loop for long, or is answered at length."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from tests.ingress.conftest import Service, Start, message
from tests.support.blocked import watching
from tests.support.raw_client import RawClient

ONE = "/api/messages"
MANY = "/api/messages:batch"
RECEIPTS = f"{ONE}/00000000-0000-8000-8000-000000000001/receipts"
REDRIVE = "/api/dead-letters/redrive"
DISCARD = "/api/dead-letters/discard"
SESSION = "/api/console/session"
STEPS = "/api/console/migration/steps"
JSON = "application/json"
LINES = "application/x-ndjson"
MIB = 1024 * 1024


def filled(opening: str, item: str, closing: str, size: int) -> bytes:
    """``item`` as often as fits into ``size`` bytes, between the two."""
    times = (size - len(opening) - len(closing)) // len(item.encode())
    return (opening + item * times + closing).encode()


def members(size: int, name: str = "conversationIb{:07}") -> bytes:
    """An object of members whose names are each nearly right."""
    each = len(name.format(0)) + 5
    count = (size - 2) // each
    return ("{" + ",".join(f'"{name.format(n)}":1' for n in range(count)) + "}").encode()


class Hostile(NamedTuple):
    name: str
    path: str
    media: str
    body: Callable[[], bytes]


def whole(**changes: object) -> str:
    return json.dumps(message(**changes))


BODIES = [
    Hostile("misspelt members on one line", MANY, LINES, lambda: members(15 * MIB)),
    Hostile(
        "misspelt members on a thousand lines",
        MANY,
        LINES,
        lambda: b"\n".join([members(15_000)] * 1000),
    ),
    Hostile("misspelt members in one item", MANY, JSON, lambda: b"[%b]" % members(2 * MIB)),
    Hostile(
        "misspelt members in many items",
        MANY,
        JSON,
        lambda: b"[%b]" % b",".join([members(MIB - 1000)] * 15),
    ),
    Hostile("misspelt members", ONE, JSON, lambda: members(MIB)),
    Hostile("empty lines", MANY, LINES, lambda: b"\n" * (16 * MIB)),
    Hostile("lines of blanks", MANY, LINES, lambda: b" \r\n\t" * MIB),
    Hostile("lines of one character", MANY, LINES, lambda: b"x\n" * (2 * MIB)),
    Hostile(
        "lines that are no JSON", MANY, LINES, lambda: b"\n".join([b"{" + b"x" * 16_000] * 999)
    ),
    Hostile("one line", MANY, LINES, lambda: b"x" * (4 * MIB)),
    Hostile("not UTF-8", MANY, LINES, lambda: b"\n".join([b'"' + b"\xff" * 16_000 + b'"'] * 1000)),
    Hostile("a million items", MANY, JSON, lambda: filled("[", "1,", "1]", 16 * MIB)),
    Hostile("objects in an item", MANY, JSON, lambda: filled("[[", "{},", "1]]", 16 * MIB)),
    Hostile("objects", ONE, JSON, lambda: filled('{"x":[', "{},", "1]}", MIB)),
    Hostile(
        "objects for recipients", ONE, JSON, lambda: filled('{"recipientIds":[', "{},", "1]}", MIB)
    ),
    Hostile("a deep array", ONE, JSON, lambda: b"[" * MIB),
    Hostile("deep objects", ONE, JSON, lambda: filled("", '{"a":', "", MIB)),
    Hostile("a deep batch", MANY, JSON, lambda: b"[" * (4 * MIB)),
    Hostile(
        "deep items", MANY, JSON, lambda: b"[%b]" % b",".join([b"[" * 500 + b"]" * 500] * 1000)
    ),
    Hostile(
        "escapes in one text",
        MANY,
        JSON,
        lambda: filled('[{"content":"', "\\u0041", '"}]', 4 * MIB),
    ),
    Hostile("escapes", ONE, JSON, lambda: filled('{"content":"', "\\ud83d\\ude00", '"}', MIB)),
    Hostile("backslashes", ONE, JSON, lambda: filled('{"content":"', "\\\\", '"}', MIB)),
    Hostile(
        "one member again and again",
        ONE,
        JSON,
        lambda: filled("{", '"content":"a",', '"x":1}', MIB),
    ),
    Hostile("unknown members by one name", ONE, JSON, lambda: filled("{", '"a":1,', '"x":1}', MIB)),
    Hostile(
        "recipients",
        ONE,
        JSON,
        lambda: filled(whole()[:-1] + ', "x": [', '"a",', '"a"]}', MIB),
    ),
    Hostile(
        "a million recipients",
        MANY,
        JSON,
        lambda: filled('[{"recipientIds":[', '"a",', '"a"]}]', 4 * MIB),
    ),
    Hostile(
        "recipients in every item",
        MANY,
        JSON,
        lambda: b"[%b]" % b",".join([filled('{"recipientIds":[', '"a",', '"a"]}', 16_000)] * 1000),
    ),
    Hostile("empty recipients", ONE, JSON, lambda: filled('{"recipientIds":[', '"",', '""]}', MIB)),
    Hostile("a long number", ONE, JSON, lambda: filled('{"content":', "9", "}", MIB)),
    Hostile("many numbers", ONE, JSON, lambda: filled('{"content":[', "9e99,", "1]}", MIB)),
    Hostile("a long name", ONE, JSON, lambda: filled('{"', "é", '":1}', MIB)),
    Hostile("a byte order mark", ONE, JSON, lambda: b"\xef\xbb\xbf" + whole().encode()),
    Hostile("colons", ONE, JSON, lambda: whole(content=":" * 65_536).encode()),
    Hostile(
        "colons in large messages",
        MANY,
        JSON,
        lambda: json.dumps(
            [message(n, content=":" * 65_000, conversationId=f"c{n}") for n in range(240)]
        ).encode(),
    ),
    Hostile(
        "large messages",
        MANY,
        JSON,
        lambda: json.dumps(
            [message(n, content="x" * 65_000, conversationId=f"c{n}") for n in range(240)]
        ).encode(),
    ),
    Hostile(
        "one key a thousand times",
        MANY,
        JSON,
        lambda: json.dumps([message(1, content=f"{n}" * 3000) for n in range(1000)]).encode(),
    ),
    *(
        Hostile(f"{name} to {path}", path, JSON, body)
        for path in (RECEIPTS, REDRIVE, DISCARD, SESSION, STEPS)
        for name, body in (
            ("members", lambda: members(MIB, "m{:07}")),
            ("a few members", lambda: members(60_000, "m{:04}")),
            ("ids", lambda: filled('{"why":"x","ids":[', "1,", "1]}", MIB)),
            ("a few ids", lambda: filled('{"why":"x","ids":[', "1,", "1]}", 60_000)),
            ("no ids", lambda: filled('{"why":"x","ids":[', '"",', "1]}", 60_000)),
            ("objects", lambda: filled('{"ids":[', "{},", "1]}", 60_000)),
            ("deep", lambda: filled("", "[", "", 60_000)),
        )
    ),
]

GOAL = 20.0
BOUND = 100.0
LONGEST_ANSWER = 2 * MIB


def request(one: Hostile, body: bytes) -> bytes:
    return (
        f"POST {one.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {one.media}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


@pytest.mark.quiet
async def test_no_body_holds_the_loop(service: Service, client: RawClient) -> None:
    """A third of them; `make chaos` sends all."""
    await _send_all(BODIES[::3], service, client)


@pytest.mark.chaos
async def test_not_one_of_all_bodies_holds_the_loop(service: Service, client: RawClient) -> None:
    await _send_all(BODIES, service, client)


async def _send_all(bodies: Sequence[Hostile], service: Service, client: RawClient) -> None:
    figures: list[tuple[float, str]] = []
    answers: dict[str, int] = {}
    for hostile in bodies:
        body = hostile.body()
        assert len(body) <= 16 * MIB, hostile.name
        client.prepare(request(hostile, body))
        with watching() as blocked:
            answer = await client.send(service.port)
        figures.append(
            (
                blocked.longest,
                f"{hostile.name}: {answer.status}, {len(answer.body)} bytes, {blocked.by}",
            )
        )
        answers[hostile.name] = len(answer.body)
    for took, said in sorted(figures, reverse=True):
        print(f"{took:8.1f} ms  {said}")  # noqa: T201 - figures for `pytest -s`
    assert max(figures)[0] < BOUND, max(figures)
    assert max(answers.values()) <= LONGEST_ANSWER
