"""What holds for every page: the keyboard, a telephone, light and dark."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import PARTITIONS, Open, Place
from tests.console.page_actions import bury

pytestmark = pytest.mark.timeout(180)


async def test_everything_can_be_reached_by_keyboard(on_kafka: Place, look: Open) -> None:
    page = await look(on_kafka)
    cells = page.get_by_role("option")
    await expect(cells).to_have_count(PARTITIONS)
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.getAttribute('role')") == "option":
            break
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(page.locator(".detail")).to_contain_text("Partition 1: ")
    await page.keyboard.press("Escape")
    await expect(page.locator(".detail")).to_be_empty()
    for key, title in (("d", "Dead letters"), ("m", "Migration"), ("a", "Actions"), ("n", "Now")):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
    await page.keyboard.press("/")
    await expect(page.get_by_label("What to find")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_is_wider_than_a_telephone(
    both: Place, look: Open, name: str, scheme: str
) -> None:
    identifier = await bury(both, f"{name}-{'long' * 20}")
    page = await look(both, color_scheme=scheme, viewport={"width": 380, "height": 800})
    letters = (await both.api.get("/api/dead-letters", params={"messageId": identifier})).json()
    for address in (
        "#/", f"#/find?q={name}-{'long' * 20}", f"#/message/{identifier}", "#/dead-letters",
        f"#/dead-letter/{letters['items'][0]['id']}", "#/migration", "#/actions", "#/browse",
        "#/tail", f"#/find?conversation={name}-{'long' * 20}",
    ):  # fmt: skip
        await page.goto(f"{both.url}/console{address}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await expect(page.get_by_text(re.compile("Reading …|Looking …"))).to_have_count(0)
        wider = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wider <= 0, address
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 19, 24)") == (scheme == "dark")


async def test_the_shortcuts_are_shown_and_do_nothing_while_somebody_types(
    on_kafka: Place, look: Open
) -> None:
    page = await look(on_kafka, "#/find")
    await page.get_by_role("heading", level=1).click()
    await page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    for title in await page.locator("#nav a").all_inner_texts():
        name = title.rstrip("0123456789 ")
        await expect(dialog.locator("dd").get_by_text(name, exact=True)).to_be_visible()
    for key in ("Tab", "Shift+Tab", "Tab"):
        await page.keyboard.press(key)
        assert await page.evaluate("document.activeElement.closest('dialog') !== null")
    await page.keyboard.press("g")
    await page.keyboard.press("m")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert page.url.endswith("#/find")
    box = page.get_by_label("What to find")
    await box.fill("")
    await box.press_sequentially("g?/gm")
    await expect(box).to_have_value("g?/gm")
    await expect(dialog).to_have_count(0)
    assert page.url.endswith("#/find")
    await page.get_by_role("button", name="Shortcuts").click()
    await dialog.get_by_role("button", name="Close").click()
    await expect(dialog).to_have_count(0)
