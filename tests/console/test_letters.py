"""Dead letters are read, redriven and discarded."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, Place
from tests.console.page_actions import WHY, bury, connected, sure
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(180)

_CAUSE = "PostgreSQL refuses it"


async def test_dead_letters_are_read_redriven_and_discarded_each_with_a_reason_on_record(
    either: Place, look: Open, name: str
) -> None:
    await bury(either, name, letters=2)
    page = await look(either)
    await page.get_by_role("link", name=re.compile("^Dead letters")).first.click()
    group = page.get_by_role("row").filter(has_text=_CAUSE).first
    await expect(group).to_contain_text("rejected")
    # One of them, read: its bytes are text here, and nothing else.
    await group.get_by_role("link", name="Show").click()
    await expect(page.get_by_role("heading", level=2).filter(has_text=_CAUSE)).to_be_focused()
    letter = page.get_by_role("row").filter(has_text=name).first
    await letter.get_by_role("link").first.click()
    await expect(page.locator("pre.content")).to_contain_text("onerror")
    await expect(page.get_by_text(f"{name}-correlation").first).to_be_visible()
    await expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
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
    await bury(either, name, letters=30)
    page = await look(either)
    await page.goto(f"{either.url}/console#/dead-letters")
    group = page.get_by_role("row").filter(has_text=_CAUSE).first
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


async def test_a_redrive_is_followed_through_a_lost_connection(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name, letters=8)
    page = await look(both, "#/dead-letters")
    run = page.locator(".runs li").first
    begun = await both.api.post(
        "/api/dead-letters/redrive", json={"filter": {"conversationId": name}, "ratePerSecond": 1}
    )
    await page.reload()
    await expect(run).to_contain_text("running")
    both.browser_side.refuse()
    both.browser_side.reset()
    runs = page.get_by_role("region", name="Redrives")
    await expect(runs).to_contain_text("The service does not answer")
    both.browser_side.heal()
    await expect(run).to_contain_text("8 of 8")
    await expect(run).to_contain_text("done")
    assert (await both.api.get(begun.headers["location"])).json()["state"] == "done"


async def test_no_more_letters_are_discarded_than_were_shown(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 4)
        page = await look(both, "#/dead-letters")
        group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
        await group.get_by_role("button", name="Discard …").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("3 letters will be given up for good")
        await database.execute(_MANY.replace("series(1,", "series(11,"), name, 18)
        await sure(page, "Discard for good")
        await expect(group.locator("td").nth(1)).to_have_text("8")
        states = await database.fetch(
            "SELECT state, count(*) AS letters FROM dead_letters WHERE cause = $1 GROUP BY state",
            f"hay <n> of {name}",
        )
    assert {row["state"]: row["letters"] for row in states} == {"discarded": 3, "pending": 8}


async def test_a_discard_that_is_sent_twice_takes_nothing_more(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 4)
        page = await look(both, "#/dead-letters")
        group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
        await group.get_by_role("button", name="Discard …").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("3 letters will be given up for good")
        await database.execute(_MANY.replace("series(1,", "series(11,"), name, 18)
        both.browser_side.lose_reply_to(b"/api/dead-letters/discard")
        await dialog.get_by_label("Reason").fill(WHY)
        await dialog.get_by_role("button", name="Discard for good").click()
        await expect(dialog).to_have_count(0)  # the browser has sent it again by itself
        query = "SELECT count(*) FROM dead_letters WHERE cause = $1 AND state = 'discarded'"
        assert await database.fetchval(query, f"hay <n> of {name}") == 3


async def test_an_action_that_is_left_with_escape_comes_back_with_its_error(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 4)
    page = await look(both, "#/dead-letters")
    group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
    await group.get_by_role("button", name="Redrive …").click()
    dialog = page.get_by_role("dialog", name="Redrive")
    await expect(dialog).to_contain_text("3 letters will be appended")
    both.browser_side.hold(b"ratePerSecond")
    await dialog.get_by_label("Reason").fill(WHY)
    await dialog.get_by_role("button", name="Redrive").click()
    await both.browser_side.held.wait()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    both.browser_side.refuse()
    both.browser_side.reset()
    try:
        await expect(dialog.get_by_role("alert")).to_contain_text("It may have been done")
    finally:
        both.browser_side.heal()
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_a_redrive_that_is_sent_twice_begins_once(both: Place, look: Open, name: str) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 4)
        page = await look(both, "#/dead-letters")
        group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
        await group.get_by_role("button", name="Redrive …").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("3 letters will be appended")
        both.browser_side.lose_reply_to(b"ratePerSecond")
        await dialog.get_by_label("Reason").fill(WHY)
        await dialog.get_by_role("button", name="Redrive").click()
        await expect(dialog).to_have_count(0)  # the browser has sent it again by itself
        query = "SELECT count(*) FROM jobs WHERE request -> 'selection' ->> 'cause' = $1"
        assert await database.fetchval(query, f"hay <n> of {name}") == 1


async def test_letters_are_counted_again_after_a_lost_connection(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 4)
    page = await look(both, "#/dead-letters")
    group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
    await group.get_by_role("button", name="Discard …").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("3 letters will be given up for good")
    await dialog.get_by_label("Reason").fill(WHY)
    both.browser_side.refuse()
    both.browser_side.reset()
    await dialog.get_by_role("button", name="Discard for good").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("It may have been done")
    await expect(dialog.get_by_role("button", name="Discard for good")).to_be_disabled()
    both.browser_side.heal()
    await dialog.get_by_role("button", name="Count again").click()
    await expect(dialog).to_contain_text("3 letters will be given up for good")
    await dialog.get_by_role("button", name="Discard for good").click()
    await expect(dialog).to_have_count(0)


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

    await eventually(over)
    async with connected(both) as database:
        await database.execute(
            "UPDATE dead_letters SET state = 'pending' WHERE conversation_id = $1", name
        )
        await database.execute(
            "UPDATE jobs SET state = 'failed', done = 0, error = 'why' WHERE id = $1::uuid",
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


_MANY = """
INSERT INTO dead_letters (
    identity, transport, log_offset, source_topic, source_partition, source_offset, message_id,
    conversation_id, kind, record_key, body, header_names, header_values, reason, error, attempts,
    redrives, failed_at, cause
)
SELECT decode(md5($1 || n), 'hex'), 'redis', n || '-0', 'messages', 0, n || '-0', NULL,
    $1 || '-' || n % 10, 'unknown', 'k', '{}', '{}', '{}', 'rejected',
    CASE WHEN n = 1 THEN 'The Needle ' ELSE 'hay ' END || n || ' of ' || $1, 3, 0, now(),
    CASE WHEN n = 1 THEN 'the needle of ' ELSE 'hay <n> of ' END || $1
FROM generate_series(1, $2::int) AS n
"""


async def test_letters_are_listed_past_a_page_found_by_text_and_conversation_and_chosen(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 231)
    page = await look(both, "#/dead-letters")
    group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
    await expect(group.locator("td").nth(1)).to_have_text("230")
    await expect(group).to_contain_text("in 10 conversations")
    await expect(group).to_contain_text(f"Latest: hay 231 of {name}")
    await group.get_by_role("link", name="Show").click()
    letters = page.get_by_role("region", name="Letters")
    rows = letters.locator("tbody tr")
    await expect(rows).to_have_count(100)
    await letters.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(200)
    await letters.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(230)
    await expect(letters).to_contain_text("These are all 230.")
    await letters.get_by_role("button", name="Choose all shown").click()
    await expect(letters.get_by_role("status")).to_contain_text("230 letters chosen")
    # The address says what is shown: it can be sent to somebody, and gone back to.
    await letters.get_by_label("Conversation").fill(f"{name}-3")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(23)
    await expect(page).to_have_url(re.compile(f"conversation={name}-3"))
    await expect(page).to_have_url(re.compile("cause=hay"))
    await letters.get_by_role("link", name="Show all").click()
    await letters.get_by_label("Text in the error").fill(f"NEEDLE 1 of {name}")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("The Needle 1")
    await expect(letters).to_contain_text("This is the only one.")
    await page.go_back()
    await expect(letters.get_by_role("heading", level=2)).to_have_text("All that wait")


async def test_a_group_is_discarded_part_by_part_with_its_progress_and_nothing_else_is(
    both: Place, look: Open, name: str
) -> None:
    async with connected(both) as database:
        await database.execute(_MANY, name, 10_301)
    page = await look(both, "#/dead-letters")
    group = page.get_by_role("row").filter(has_text=f"hay <n> of {name}")
    await expect(group.locator("td").nth(1)).to_have_text("10,000+")
    await group.get_by_role("button", name="Discard …").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("10,300 letters will be given up for good")
    told = await page.evaluate_handle(
        """() => { const told = []; new MutationObserver(() => {
            const shown = document.querySelector("dialog .preview")?.textContent;
            if (shown && told.at(-1) !== shown) told.push(shown); })
          .observe(document.body, { subtree: true, childList: true }); return told; }"""
    )
    await sure(page, "Discard for good")
    await expect(group).to_have_count(0)
    await expect(page.get_by_role("row").filter(has_text=f"the needle of {name}")).to_be_visible()
    parts = [text for text in await told.json_value() if "discarded; leaving" in text]
    assert [part.split(" of ")[0] for part in parts[:2]] == ["5,000", "10,000"]
    actions = (await both.api.get("/api/console/actions", params={"limit": 3})).json()["items"]
    assert [action["result"] for action in actions] == [
        "300 discarded", "5000 discarded", "5000 discarded",
    ]  # fmt: skip
    assert {action["target"] for action in actions} == {
        f"dead letters with reason rejected, cause hay <n> of {name}"
    }
    left = await both.api.get("/api/dead-letters", params={"text": name, "limit": 200})
    assert [item["error"] for item in left.json()["items"]] == [f"The Needle 1 of {name}"]
