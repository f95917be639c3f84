"""Messages are followed live: as they come, what becomes of them, filtered, paused."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, Place
from tests.console.page_actions import HOSTILE

pytestmark = pytest.mark.timeout(180)


async def test_messages_come_become_rows_and_wait_while_paused(
    either: Place, look: Open, name: str
) -> None:
    page = await look(either, "#/tail")
    await page.get_by_label("Conversation").fill(name)
    await page.get_by_label("Text in the content").fill("SCRIPT")
    await page.get_by_role("button", name="Follow these").click()
    await expect(page).to_have_url(re.compile(f"conversation={name}"))  # before, it follows all
    status = page.get_by_role("status").filter(has_text=f"Following {either.log.name}")
    await expect(status).to_be_visible()
    await either.post(f"{name}-other", f"{name}-0", HOSTILE)
    await either.post(name, f"{name}-1", "nothing of that")
    first = (await either.post(name, f"{name}-2", HOSTILE))["messageId"]
    rows = page.get_by_role("row").filter(has_text=name)
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("<script>")
    await expect(rows.first).to_contain_text("persisted")
    assert await page.evaluate("document.body.dataset.hacked") is None
    await page.get_by_role("button", name="Pause").click()
    later = (await either.post(name, f"{name}-3", HOSTILE))["messageId"]
    await expect(page.get_by_role("button", name="Resume (1 more)")).to_be_visible()
    await expect(rows).to_have_count(1)
    await either.persisted(later)
    await page.get_by_role("button", name="Resume").click()
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("persisted")  # the newest is the first
    links = rows.locator(f'a[href="#/message/{later}"], a[href="#/message/{first}"]')
    assert [await link.get_attribute("href") for link in await links.all()] == [
        f"#/message/{later}", f"#/message/{first}",
    ]  # fmt: skip
    await page.get_by_role("button", name="Clear").click()
    await expect(rows).to_have_count(0)


async def test_a_tail_that_lost_its_connection_says_so_and_goes_on(
    on_kafka: Place, look: Open, name: str
) -> None:
    page = await look(on_kafka, f"#/tail?conversation={name}")
    await expect(page.get_by_role("status").filter(has_text="Following kafka")).to_be_visible()
    on_kafka.browser_side.refuse()
    on_kafka.browser_side.reset()
    lost = "The connection is lost, or too many"
    await expect(page.get_by_role("status").filter(has_text=lost)).to_be_visible()
    on_kafka.browser_side.heal()
    await expect(page.get_by_role("status").filter(has_text="Following kafka")).to_be_visible()
    await on_kafka.post(name, name)
    await expect(page.get_by_role("row").filter(has_text=name)).to_have_count(1)
