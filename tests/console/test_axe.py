"""axe finds no fault in any page, story or dialog, light or dark."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Open, Place
from tests.console.page_actions import bury
from tests.support.axe import axe_source, violations

pytestmark = pytest.mark.timeout(300)

_BUSY = re.compile("Reading …|Looking …|Judging |Counting …")


@pytest.fixture(autouse=True)
def fetched() -> None:
    """Fetch axe before anything is started for it."""
    axe_source()


async def _judged(page: Page, what: str) -> list[str]:
    await expect(page.get_by_text(_BUSY)).to_have_count(0)
    # A colour that still changes has any contrast.
    await page.emulate_media(reduced_motion="reduce")
    found = [f"{what}: {violation}" for violation in await violations(page)]
    await page.emulate_media(color_scheme="dark")
    dark = await violations(page, only=["color-contrast"])
    await page.emulate_media(color_scheme="light")
    return found + [f"{what}, dark: {violation}" for violation in dark]


async def _dialogs(page: Page, address: str, seen: set[str]) -> list[str]:
    """Open every dialog that a page leads to, each once."""
    found = []
    for opens in await page.locator("main button:enabled", has_text="…").all():
        name = await opens.inner_text()
        if name in seen:
            continue
        seen.add(name)
        await opens.click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        found += await _judged(page, f"{address}, {name}")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
    return found


async def test_axe_finds_nothing_on_any_page_story_and_dialog(
    both: Place, look: Open, name: str
) -> None:
    posted = await both.post(name, f"{name}-1")
    await both.persisted(posted["messageId"])
    dead = await bury(both, name, letters=2)
    letters = (await both.api.get("/api/dead-letters", params={"conversationId": name})).json()
    first, second = (item["id"] for item in letters["items"])
    gone = {"ids": [second], "why": "because the test says so"}
    assert (await both.api.post("/api/dead-letters/discard", json=gone)).status_code == 200

    page = await look(both, key="")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    found = await _judged(page, "sign in")
    page = await look(both)
    pages = await page.locator("#nav a").evaluate_all("all => all.map((one) => one.hash)")
    assert len(pages) >= 5
    seen: set[str] = set()
    for address in (
        *pages, f"#/find?q={name}", f"#/message/{posted['messageId']}", f"#/message/{dead}",
        f"#/dead-letters?conversation={name}&text=postgres", f"#/dead-letter/{first}",
        f"#/dead-letter/{second}", "#/find?q=nothing-has-this-id", "#/nowhere",
    ):  # fmt: skip
        await page.evaluate("address => { location.hash = address; }", address)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        if address == "#/migration":  # its buttons come when the gates are judged
            back = page.get_by_role("button", name="Roll back …")
            await expect(back).to_be_visible(timeout=30_000)
        found += await _judged(page, address)
        found += await _dialogs(page, address, seen)
    await page.get_by_role("heading", level=1).click()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += await _judged(page, "shortcuts")
    assert found == []
    assert seen >= {"Redrive …", "Discard …", "Roll back …"}


async def test_axe_would_find_what_it_found_before(both: Place, look: Open) -> None:
    """The rule that is off by itself is on, and so are those of good practice."""
    page = await look(both)
    await page.evaluate(
        """() => document.querySelector("main").append(
            Object.assign(document.createElement("button"),
                { textContent: "Seen", ariaLabel: "heard" }))"""
    )
    (found,) = await violations(page)
    assert found.startswith("label-content-name-mismatch")
