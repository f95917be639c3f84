"""A message is found, and its story told."""

from __future__ import annotations

import re

import asyncpg
import pytest
from playwright.async_api import Locator, Page, expect

from tests.console.conftest import Open, Place
from tests.console.page_actions import HOSTILE, TRACEPARENT, WHY, bury
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(180)


async def test_a_message_is_followed_from_post_to_row(either: Place, look: Open, name: str) -> None:
    place, over_both = either, either.log.name == "redis"
    page = await look(place)
    await page.goto(f"{place.url}/console#/find")
    posted = await place.api.post(
        "/api/messages",
        headers={"traceparent": TRACEPARENT, "X-Correlation-ID": f"{name}-corr"},
        json={
            "conversationId": name,
            "senderId": "ann",
            "content": HOSTILE,
            "clientMessageId": f"{name}-1",
        },
    )
    identifier = posted.json()["messageId"]
    await place.persisted(identifier)
    receipt = {"userId": "bob", "state": "read"}
    await place.api.post(f"/api/messages/{identifier}/receipts", json=receipt)
    for text, found_as in (
        (f"{name}-1", "client message id"),
        (f"{name}-corr", "correlation id"),
        (name, "conversation"),
    ):
        await page.get_by_label("What to find").fill(text)
        await page.keyboard.press("Enter")
        row = page.get_by_role("row").filter(has_text=identifier)
        await expect(row).to_contain_text(found_as)
        await expect(row).to_contain_text("persisted")
    await page.get_by_role("link", name=identifier).click()
    story = page.get_by_role("region", name="What happened")
    steps = story.locator("li.step strong")
    logs = ["redis", "kafka"] if over_both else ["kafka"]
    expected = {
        "Accepted by the ingress",
        *(f"Appended to {log}" for log in logs),
        "Persisted to PostgreSQL",
        "Receipt: read",
    }

    async def told() -> bool:
        if set(await steps.all_inner_texts()) == expected:
            return True
        await page.get_by_role("button", name="Read again").click()
        return False

    # The receipt, and the standby's note of the place in the other log, come a moment later.
    await eventually(told, every=0.3)
    titles = await steps.all_inner_texts()
    assert titles[0] == "Accepted by the ingress"
    assert "no longer in that log" not in await story.inner_text()
    assert await page.locator("pre.content").inner_text() == HOSTILE
    assert await page.evaluate("document.body.dataset.hacked") is None
    link = page.get_by_role("link", name="Open the trace")
    assert await link.get_attribute("href") == f"http://traces.test/{'ab' * 16}"


async def test_a_message_is_followed_through_a_lost_connection(
    both: Place, look: Open, name: str
) -> None:
    both.database_side.refuse()
    both.database_side.reset()
    try:
        posted = await both.post(name, name)
        page = await look(both)
        await page.goto(f"{both.url}/console#/message/{posted['messageId']}")
        state = page.locator("#main .head .state")
        await expect(state).to_have_text("pending")
        both.browser_side.refuse()
        both.browser_side.reset()
        await expect(page.locator("#main")).to_contain_text("The service does not answer")
    finally:
        both.database_side.heal()
        both.browser_side.heal()
    await expect(state).to_have_text("persisted")


async def test_every_failed_attempt_is_in_the_story(either: Place, look: Open, name: str) -> None:
    identifier = await bury(either, name)
    page = await look(either, f"#/message/{identifier}")
    await page.goto(f"{either.url}/console#/message/{identifier}")
    story = page.get_by_role("region", name="What happened")
    for attempt in (1, 2, 3):
        await expect(story).to_contain_text(f"Attempt {attempt} to persist it failed")
    await expect(story).to_contain_text("Was dead-lettered: rejected")
    assert (await page.locator("pre.content").inner_text()).startswith("<img src=x")
    assert await page.evaluate("document.body.dataset.hacked") is None


async def test_a_redriven_message_has_one_story_from_its_post_to_its_receipts(
    unequal: Place, look: Open, name: str
) -> None:
    """What PostgreSQL refused, put back when the cause is gone: on both logs, in one waterfall."""
    database = await asyncpg.connect(unequal.settings["DATABASE_URL"])
    check = f"ALTER TABLE messages ADD CONSTRAINT hurt CHECK (conversation_id <> '{name}')"
    await database.execute(check)
    posted = await unequal.post(name, name)
    identifier = posted["messageId"]
    find = {"messageId": identifier}

    async def buried() -> bool:
        return bool((await unequal.api.get("/api/dead-letters", params=find)).json()["items"])

    await eventually(buried)
    await database.execute("ALTER TABLE messages DROP CONSTRAINT hurt")
    await database.close()
    begun = await unequal.api.post("/api/dead-letters/redrive", json={"filter": find, "why": WHY})
    assert begun.status_code == 202
    await unequal.persisted(identifier)
    for state in ("delivered", "read"):
        receipt = {"userId": "bob", "state": state}
        await unequal.api.post(f"/api/messages/{identifier}/receipts", json=receipt)
    page = await look(unequal, f"#/message/{identifier}")
    steps = page.get_by_role("region", name="What happened").locator("li.step")

    async def told() -> bool:
        titles = await steps.locator("strong").all_inner_texts()
        if {"Appended to kafka", "Receipt: delivered", "Receipt: read"} <= set(titles):
            return True
        await page.get_by_role("button", name="Read again").click()
        return False

    await eventually(told, every=0.3)
    titles = await steps.locator("strong").all_inner_texts()
    order = [
        titles.index(title)
        for title in (
            "Accepted by the ingress", *(f"Attempt {n} to persist it failed" for n in (1, 2, 3)),
            "Was dead-lettered: rejected", "Redriven to the primary log", "Persisted to PostgreSQL",
            "Receipt: delivered", "Receipt: read",
        )
    ]  # fmt: skip
    assert order == sorted(order)
    assert titles[1].startswith("Appended to")
    # What came after the redrive took as long as it took since then, and not since the POST.
    story = (await unequal.api.get(f"/api/console/messages/{identifier}")).json()["steps"]
    back = next(step for step in story if step["kind"] == "redriven")["at"]
    late = [step["since"] for step in story if step["kind"] == "appended" and step["at"] > back]
    assert late
    assert set(late) == {back}


async def test_a_message_is_found_by_a_place_a_beginning_and_a_letters_number(
    either: Place, look: Open, name: str
) -> None:
    identifier = (await either.post(name, name))["messageId"]
    await either.persisted(identifier)
    story = (await either.api.get(f"/api/console/messages/{identifier}")).json()
    at = story["message"]["positions"][0]
    page = await look(either, "#/find")
    for text, found_as in (
        (f"{at['transport']} {at['partition']}:{at['offset']}", "log position"),
        (identifier[:13], "beginning of the message id"),
    ):
        await page.get_by_label("What to find").fill(text)
        await page.keyboard.press("Enter")
        row = page.get_by_role("row").filter(has_text=identifier)
        await expect(row).to_contain_text(found_as)
    buried = await bury(either, f"{name}-buried")
    letters = await either.api.get("/api/dead-letters", params={"messageId": buried})
    number = letters.json()["items"][0]["id"]
    await page.get_by_label("What to find").fill(f"#{number}")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=f"Dead letter {number}").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(f"Dead letter {number}")


async def test_a_conversation_is_read_page_by_page_and_a_senders_messages_listed(
    on_kafka: Place, look: Open, name: str
) -> None:
    messages = [
        {
            "conversationId": name, "senderId": f"{name}-{HOSTILE}" if n % 30 == 0 else "ann",
            "content": "x", "clientMessageId": f"{name}-{n}",
        }
        for n in range(61)
    ]  # fmt: skip
    answer = await on_kafka.api.post("/api/messages:batch", json=messages)
    last = answer.json()[-1]["messageId"]
    await on_kafka.persisted(last)
    page = await look(on_kafka, "#/find")
    await page.get_by_text("List messages of a conversation").click()
    await page.get_by_label("Conversation", exact=True).fill(name)
    await page.get_by_role("button", name="List").click()
    rows = page.get_by_role("row").filter(has_text=name)
    await expect(rows).to_have_count(50)
    await expect(rows.first).to_contain_text(last)
    await page.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(61)
    await expect(page.get_by_text("There are no others.")).to_be_visible()
    sent = [f"{name}-{n}" for n in range(61)]
    assert await rows.locator("td:nth-child(6)").all_inner_texts() == sent[::-1]
    # From one of them to all of its sender, wherever they are.
    await rows.first.get_by_role("link", name=f"{name}-<img").click()
    await _are_listed(page, rows, 3)
    await expect(page.get_by_label("Sender", exact=True)).to_have_value(f"{name}-{HOSTILE}")
    assert await page.evaluate("document.body.dataset.hacked") is None
    await page.get_by_label("Last minutes").fill("5")
    await page.get_by_role("button", name="List").click()
    await expect(page).to_have_url(re.compile("minutes=5"))
    await _are_listed(page, rows, 3)


async def _are_listed(page: Page, rows: Locator, count: int) -> None:
    """Wait for so many rows; a listing stops early where PostgreSQL is slow, and can go on."""
    further = page.get_by_role("button", name="Look further back")

    async def there() -> bool:
        if await rows.count() == count:
            return True
        if await further.count():
            await further.click()
        return False

    await eventually(there, every=0.3)


async def test_content_in_the_store_is_linked_below_any_prefix(
    either: Place, look: Open, name: str
) -> None:
    """Like all that the page loads: a proxy may serve the console below a path of its own."""
    identifier = (await either.post(name, f"{name}-1"))["messageId"]
    await either.persisted(identifier)
    connection = await asyncpg.connect(either.settings["DATABASE_URL"])
    await connection.execute(
        "UPDATE messages SET content = '', payload_key = $2, payload_bytes = 70000 WHERE id = $1",
        identifier,
        f"{identifier}/{'0' * 64}",
    )
    await connection.close()
    page = await look(either)
    await page.goto(f"{either.url}/console#/message/{identifier}")
    link = page.get_by_role("link", name="70,000 bytes")
    await expect(link).to_have_attribute("href", f"api/messages/{identifier}/content")
