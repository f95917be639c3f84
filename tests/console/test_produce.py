"""A test message is sent by hand and followed to its row."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import READER, Open, Place
from tests.console.page_actions import HOSTILE, WHY

pytestmark = pytest.mark.timeout(180)


async def test_a_message_is_sent_answered_and_followed_to_its_row(
    both: Place, look: Open, name: str
) -> None:
    page = await look(both, f"#/produce?conversation={name}")
    await expect(page.get_by_label("Conversation")).to_have_value(name)
    await page.get_by_label("Sender").fill("an:n")
    await page.get_by_label("Content", exact=True).fill(HOSTILE)
    await page.get_by_label("Recipients").fill("bob, eve")
    await page.get_by_label("Client message id").fill(f"{name}-1")
    await expect(page.get_by_text(f"an%3An:{name}:{name}-1")).to_be_visible()
    await page.get_by_role("button", name="Send").click()
    # Without a reason nothing is sent.
    assert await page.evaluate("document.querySelector('[name=why]').matches(':invalid')")
    await page.get_by_label("Reason").fill(WHY)
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("heading", name="202: accepted")).to_be_visible()
    story = page.get_by_role("region", name="What happened")
    await expect(story).to_contain_text("Persisted to PostgreSQL")
    link = page.get_by_role("link", name=re.compile("[0-9a-f-]{36}"))
    identifier = (await link.inner_text()).strip()
    row = (await both.api.get(f"/api/messages/{identifier}")).json()
    assert (row["content"], row["recipientIds"], row["senderId"]) == (
        HOSTILE, ["bob", "eve"], "an:n",
    )  # fmt: skip
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("heading", name="200: accepted before")).to_be_visible()
    await page.get_by_label("Content", exact=True).fill("Something else")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert").filter(has_text="with another body")).to_be_visible()
    await page.goto(f"{both.url}/console#/actions")
    line = page.get_by_role("row").filter(has_text=f"a message of an:n in {name}")
    await expect(line.last).to_contain_text(f"message {identifier}")
    assert await page.evaluate("document.body.dataset.hacked") is None


async def test_a_key_that_may_only_read_is_told_what_it_lacks(both: Place, look: Open) -> None:
    page = await look(both, "#/produce", key=READER)
    await expect(page.get_by_text("Your key may not send messages here")).to_be_visible()
    await expect(page.get_by_role("link", name="Send", exact=True)).to_have_count(0)
