"""No text from outside becomes more than text in a page, and none ends an answer.

The database holds hostile text in every column, as only SQL can put it there.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from playwright.async_api import Page, expect

from ingress.openapi import CONSOLE_PATH, PATH
from tests.console.conftest import Open, Place
from tests.console.page_actions import connected
from tests.support.hostile_rows import DEAD, MESSAGE, REDRIVE, fill
from tests.support.hostile_text import WORST, hostile_texts

pytestmark = pytest.mark.timeout(300)

# Line feeds and tabs are only space in a page.
_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_SEEN = """() => [document.body.textContent, ...[...document.querySelectorAll("*")].flatMap(
    (one) => ["title", "aria-label", "data-label"].map((name) => one.getAttribute(name) ?? ""))]"""
_WIDER = """() => {
    const root = document.documentElement, most = root.clientWidth;
    if (root.scrollWidth <= most) return [];
    return [...document.querySelectorAll("main *")]
        .filter((one) => one.getBoundingClientRect().right > most)
        .map((one) => one.outerHTML.slice(0, 80));
}"""
_TEXT = WORST[:256]
_NO_PAYLOADS = "/problems/payloads-unavailable"
# The service's own, and where the migration stands. A tombstone would hide the message.
_OURS = ("fences", "migration", "tombstones")
_NOTHING = ("#/find?q=%00", "#/find?q=%E2%80%AE")
_PAGES = (
    "#/", f"#/message/{MESSAGE}", f"#/message/{DEAD}", "#/dead-letters", "#/dead-letter/1",
    "#/migration", "#/actions", f"#/find?q={quote(_TEXT)}", *_NOTHING,
)  # fmt: skip


@pytest_asyncio.fixture
async def hostile(places: Callable[..., Awaitable[Place]]) -> Place:
    """A service of its own on Redis."""
    return await places("hostile", TRANSPORT="redis")


async def _filled(place: Place, text: str, *, everywhere: bool = False) -> None:
    async with connected(place) as database:
        await fill(database, text, everywhere=everywhere, but=_OURS)


async def _looked_at(page: Page, place: Place, address: str, awaited: str = "") -> None:
    await page.goto(f"{place.url}/console#/nowhere")
    await page.goto(f"{place.url}/console{address}")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.get_by_text(re.compile("Reading …|Looking …"))).to_have_count(0)
    await expect(page.locator("main")).to_contain_text(awaited)
    await expect(page.get_by_text("The service answered 500")).to_have_count(0)
    texts = await page.evaluate(_SEEN)
    found = [(address, text[:300]) for text in texts if _UNSEEN.search(text)]
    assert not found
    assert await page.evaluate("document.body.dataset.hacked") is None
    assert await page.locator("main script, main img").count() == 0


async def test_pages_show_hostile_text_as_text(hostile: Place, look: Open) -> None:
    await _filled(hostile, _TEXT)
    page = await look(hostile)
    for address in _PAGES:
        await _looked_at(page, hostile, address, "" if address in _NOTHING else "31337m")
    await page.goto(f"{hostile.url}/console#/dead-letter/1")
    await expect(page.get_by_text("<U+202E>").first).to_be_visible()


async def test_ids_of_256_characters_leave_every_page_its_width(hostile: Place, look: Open) -> None:
    """Of one word, with what can't be seen in it: a line feed too is written out in an id."""
    text = ("w" * 128 + "\n\u202e\u200b\x01" + "i" * 128)[:256]
    await _filled(hostile, text)
    page = await look(hostile)
    for width in (1280, 375):
        await page.set_viewport_size({"width": width, "height": 800})
        for address in (*_PAGES[:7], f"#/dead-letters?conversation={quote(text)}"):
            await _looked_at(page, hostile, address, "wwww")
            assert await page.evaluate(_WIDER) == [], (address, width)
    ids = page.get_by_role("region", name="Letters").locator("code.id bdi")
    await expect(ids.filter(has_text="w\\x0a<U+202E><U+200B>\\x01i").first).to_be_visible()


async def test_text_of_another_direction_turns_nothing_beside_it(
    hostile: Place, look: Open
) -> None:
    await _filled(hostile, "עברית")
    page = await look(hostile, "#/actions")
    await expect(page.get_by_role("row").nth(1)).to_contain_text("עברית")
    loose = await page.evaluate(
        """() => {
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
          while (walk.nextNode())
            if (/[\u0590-\u05ff]/.test(walk.currentNode.data)
                && !walk.currentNode.parentElement.closest("bdi"))
              found.push(walk.currentNode.data);
          return found;
        }"""
    )
    assert loose == []


async def _answers(place: Place, text: str) -> int:
    """Ask everything that can be asked, with the ids there are and with ones that are none.

    Returns how much of it was found.
    """
    good = 0
    documents = [(await place.api.get(path)).json() for path in (PATH, CONSOLE_PATH)]
    described = {
        path: operations for document in documents for path, operations in document["paths"].items()
    }
    values: dict[str, list[str]] = {
        "messageId": [str(MESSAGE), str(DEAD), text],
        "conversationId": [text],
        "deadLetterId": ["1", text],
        "redriveId": [str(REDRIVE), text],
    }
    for path, operations in described.items():
        if "get" not in operations or path.endswith("/events"):
            continue
        names = re.findall(r"{(\w+)}", path)
        query = [
            parameter["name"]
            for parameter in operations["get"].get("parameters", ())
            if parameter["in"] == "query"
        ]
        for chosen in itertools.product(*(values.get(name, ["1", text]) for name in names)):
            parts = {name: quote(value, safe="") for name, value in zip(names, chosen, strict=True)}
            for asked in ({}, dict.fromkeys(query, text)):
                answer = await place.api.get(path.format(**parts), params=asked)
                _judge(answer, path)
                good += answer.status_code == 200
    return good


def _judge(answer: Any, path: str) -> None:
    # A row may say that its content is in a payload store, and the service here has none.
    is_apart = answer.status_code == 503 and answer.json()["type"] == _NO_PAYLOADS
    assert answer.status_code < 500 or is_apart, (path, answer.text[:2000])
    for value in answer.headers.values():
        assert value.isprintable(), (path, value)
    if "json" in answer.headers.get("content-type", ""):
        json.loads(answer.text)
    if "html" in answer.headers.get("content-type", ""):
        assert "<script>document" not in answer.text


async def test_every_answer_is_one_whatever_is_asked_and_stored(hostile: Place) -> None:
    for everywhere in (False, True):
        await _filled(hostile, _TEXT, everywhere=everywhere)
        assert await _answers(hostile, _TEXT) >= 15


@pytest.mark.chaos
@settings(
    max_examples=60, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(text=hostile_texts(30))
async def test_pages_and_answers_whatever_the_text_is(
    hostile: Place, look: Open, text: str
) -> None:
    await _filled(hostile, text[:256])
    await _answers(hostile, text[:256])
    page = await look(hostile)
    for address in _PAGES[:7]:
        await _looked_at(page, hostile, address)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x1b[6n", "a\x00b", "é", "a" * 129])
async def test_no_answer_carries_a_header_of_a_strangers_making(hostile: Place, value: str) -> None:
    """Of an id in a header: refused, or taken where it is plain. Of one in a record: replaced."""
    await _filled(hostile, _TEXT)
    async with connected(hostile) as database:
        await database.execute("UPDATE messages SET correlation_id = $1", value.replace("\0", ""))
    posted = await hostile.api.get(f"/api/messages/{MESSAGE}")
    assert posted.status_code == 200
    assert "x-evil" not in posted.headers
    again = {
        "conversationId": "c", "senderId": "s", "content": "x", "clientMessageId": quote(value),
    }  # fmt: skip
    answer = await hostile.api.post("/api/messages", json=again)
    assert answer.status_code in {200, 202}
    async with connected(hostile) as database:
        await database.execute("UPDATE messages SET correlation_id = $1", value.replace("\0", ""))
    repeat = await hostile.api.post("/api/messages", json=again)
    assert "x-evil" not in repeat.headers
    assert repeat.headers["x-correlation-id"].isprintable()
