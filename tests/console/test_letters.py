"""Dead letters are read, redriven and discarded."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, Place
from tests.console.doing import WHY, bury, connected, sure
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(180)


async def test_dead_letters_are_read_redriven_and_discarded_each_with_a_reason_on_record(
    either: Place, look: Open, name: str
) -> None:
    await bury(either, name, letters=2)
    page = await look(either)
    await page.get_by_role("link", name=re.compile("^Dead letters")).first.click()
    group = page.get_by_role("row").filter(has_text="the last hour").filter(has_text="rejected")
    await expect(group).to_contain_text("rejected")
    # One of them, read: its bytes are text here, and nothing else.
    await group.get_by_role("button", name="Show").click()
    letter = page.get_by_role("row").filter(has_text=name).first
    await letter.get_by_role("link").first.click()
    await expect(page.locator("pre.content")).to_contain_text("onerror")
    await expect(page.get_by_text(f"{name}-correlation").first).to_be_visible()
    await page.get_by_role("button", name="Discard …").click()
    await expect(page.get_by_role("dialog")).to_contain_text("1 letter will be given up for good")
    # No reason, no action.
    await page.get_by_role("dialog").get_by_role("button", name="Discard for good").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await sure(page, "Discard for good")
    await expect(page.locator(".state").first).to_have_text("discarded")
    # The other one, chosen, back into the log: it fails again and is a new letter.
    await page.goto(f"{either.url}/console#/dead-letters")
    row = page.get_by_role("row").filter(has_text=name).first
    await row.get_by_role("checkbox").check()
    await page.get_by_role("status").get_by_role("button", name="Redrive …").click()
    await expect(page.get_by_role("dialog")).to_contain_text("1 letter will be appended")
    await sure(page, "Redrive")
    await expect(page.locator(".runs li").first).to_contain_text("1 of 1")
    await page.get_by_role("link", name="Actions").click()
    for what, result in (("redrive", "begun"), ("discard", "1 discarded")):
        line = page.get_by_role("row").filter(has_text=WHY).filter(has_text=result)
        await expect(line.first).to_contain_text(what)
        await expect(line.first).to_contain_text(either.who)


async def test_a_redrive_shows_its_progress_and_is_cancelled(
    either: Place, look: Open, name: str
) -> None:
    await bury(either, name, letters=6)
    page = await look(either)
    await page.goto(f"{either.url}/console#/dead-letters")
    group = page.get_by_role("row").filter(has_text="the last hour").filter(has_text="rejected")
    await group.get_by_role("button", name="Redrive …").click()
    await page.get_by_role("dialog").get_by_label("Letters a second").fill("1")
    await expect(page.get_by_role("dialog")).to_contain_text("letters will be appended")
    await sure(page, "Redrive")
    run = page.locator(".runs li").first
    await expect(run).to_contain_text("running")
    await run.get_by_role("button", name="Cancel …").click()
    await sure(page, "Cancel it")
    await expect(run).to_contain_text("cancelled")
    done, total = map(int, re.findall(r"\d+", await run.locator(".far").inner_text()))
    assert done < total
    actions = (await either.api.get("/api/console/actions")).json()["items"]
    assert actions[0]["action"] == "cancel redrive"
    assert (actions[0]["why"], actions[0]["who"]) == (WHY, either.who)


async def test_a_redrive_that_failed_is_shown_and_resumed(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name)
    letters = (await both.api.get("/api/dead-letters", params={"conversationId": name})).json()
    begun = await both.api.post(
        "/api/dead-letters/redrive", json={"ids": [letters["items"][0]["id"]]}
    )
    redrive = begun.json()["redriveId"]

    async def over() -> bool:
        progress = (await both.api.get(begun.headers["location"])).json()
        return bool(progress["state"] == "done")

    await eventually(over, 20)
    async with connected(both) as database:
        await database.execute(
            "UPDATE dead_letters SET state = 'pending' WHERE conversation_id = $1", name
        )
        await database.execute(
            "UPDATE redrives SET state = 'failed', redriven = 0, error = 'why' WHERE id = $1::uuid",
            redrive,
        )
    page = await look(both)
    await page.goto(f"{both.url}/console#/dead-letters")
    run = page.locator(".runs li").first
    await expect(run).to_contain_text("failed")
    await expect(run).to_contain_text("why")
    await run.get_by_role("button", name="Resume …").click()
    await sure(page, "Resume it")
    await expect(run).to_contain_text("done")
    await expect(run.get_by_role("button")).to_have_count(0)
