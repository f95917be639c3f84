"""The console as people use it: a real Chromium on a running service."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import ADMIN, PARTITIONS, READER, Open, Place
from tests.support.eventually import eventually
from transport.clock import now
from transport.envelope import Message, seal_message
from transport.identity import idempotency_key, message_id

pytestmark = pytest.mark.timeout(180)

HOSTILE = (
    '<img src=x onerror="document.body.dataset.hacked=1">'
    "<script>document.body.dataset.hacked=1</script>"
    '<a href="javascript:document.body.dataset.hacked=1">x</a>'
)
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
WHY = "because the test says so"


async def bury(place: Place, conversation: str, *, letters: int = 1, body: str = HOSTILE) -> str:
    """Append messages that PostgreSQL refuses (no text of its can hold NUL); return the last id."""
    identifier = ""
    for number in range(letters):
        key = idempotency_key("ann", conversation, f"{conversation}-{number}")
        identifier = message_id(key, conversation)
        message = Message(
            conversation_id=conversation,
            sender_id="ann",
            client_message_id=f"{conversation}-{number}",
            content=f"{body}\0",
            content_type="text",
            message_id=identifier,
            idempotency_key=key,
            accepted_at=now(),
            correlation_id=f"{conversation}-correlation",
        )
        sealed = seal_message(message, partitions=PARTITIONS, traceparent=None)
        (outcome,) = await place.log.publish([sealed], remember=False)
        assert not isinstance(outcome, Exception)

    async def buried() -> bool:
        found = await place.api.get(
            "/api/dead-letters", params={"conversationId": conversation, "limit": 200}
        )
        return len(found.json()["items"]) >= letters

    await eventually(buried, 20)
    return identifier


async def sure(page: Page, verb: str, why: str = WHY) -> None:
    """Give the reason that is asked for, and go ahead."""
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(why)
    await dialog.get_by_role("button", name=verb).click()
    await expect(dialog).to_have_count(0)


async def test_both_logs_are_shown_with_every_partition_and_what_is_so(
    both: Place, look: Open
) -> None:
    page = await look(both, key=ADMIN)
    for log, role in (("redis", "read by workers"), ("kafka", "shadow")):
        part = page.get_by_role("region", name=f"Log {log}")
        await expect(part.get_by_role("option")).to_have_count(PARTITIONS)
        await expect(part).to_contain_text(role)
        await expect(part).not_to_contain_text("does not answer")
    await expect(page.locator(".sentence").first).to_be_visible()
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    processes = page.get_by_role("region", name="Processes")
    await expect(processes).to_contain_text("redis, shadow kafka sync, reads redis")


async def test_a_message_is_followed_from_post_to_row(either: Place, look: Open, name: str) -> None:
    place, over_both = either, either.log.name == "redis"
    page = await look(place, key=ADMIN if over_both else None)
    await page.goto(f"{place.url}/console#/find")
    posted = await place.api.post(
        "/api/messages",
        headers={
            "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
            "X-Correlation-ID": f"{name}-corr",
        },
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
    await eventually(told, 20, every=0.3)
    titles = await steps.all_inner_texts()
    assert titles[0] == "Accepted by the ingress"
    assert "no longer in that log" not in await story.inner_text()
    assert await page.locator("pre.content").inner_text() == HOSTILE
    assert await page.evaluate("document.body.dataset.hacked") is None
    link = page.get_by_role("link", name="Open the trace")
    assert await link.get_attribute("href") == f"http://traces.test/{'ab' * 16}"


async def test_every_failed_attempt_is_in_the_story(both: Place, look: Open, name: str) -> None:
    identifier = await bury(both, name)
    page = await look(both, f"#/message/{identifier}", key=ADMIN)
    await page.goto(f"{both.url}/console#/message/{identifier}")
    story = page.get_by_role("region", name="What happened")
    for attempt in (1, 2, 3):
        await expect(story).to_contain_text(f"Attempt {attempt} to persist it failed")
    await expect(story).to_contain_text("Was dead-lettered: rejected")
    assert (await page.locator("pre.content").inner_text()).startswith("<img src=x")
    assert await page.evaluate("document.body.dataset.hacked") is None


async def test_dead_letters_are_read_redriven_and_discarded_each_with_a_reason_on_record(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name, letters=2)
    page = await look(both, key=ADMIN)
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
    await page.goto(f"{both.url}/console#/dead-letters")
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
        await expect(line.first).to_contain_text("console:ops")


async def test_a_redrive_shows_its_progress_and_is_cancelled(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name, letters=6)
    page = await look(both, key=ADMIN)
    await page.goto(f"{both.url}/console#/dead-letters")
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
    actions = (await both.api.get("/api/console/actions")).json()["items"]
    assert actions[0]["action"] == "cancel redrive"
    assert (actions[0]["why"], actions[0]["who"]) == (WHY, "console:ops")


async def test_the_migration_is_shown_with_its_gates_and_stepped_with_a_reason(
    both: Place, look: Open
) -> None:
    page = await look(both, key=ADMIN)
    await page.get_by_role("link", name="Migration").click()
    here = page.locator(".phases li.here")
    await expect(here).to_contain_text("2 mirror")
    ahead = page.get_by_role("region", name="Next step")
    await expect(ahead).to_contain_text("Advance: 2 mirror → 3 consume")
    names = await ahead.locator(".gates li strong").all_inner_texts()
    assert {"processes", "shadow", "parity", "start", "durability"} <= set(names)
    back = page.get_by_role("region", name="Step back")
    await expect(back.locator(".gates li").first).to_contain_text("green")
    await back.get_by_role("button", name="Roll back …").click()
    await expect(page.get_by_role("dialog")).to_contain_text("TRANSPORT_SHADOW_MODE=async")
    await sure(page, "Roll back")
    await expect(page.locator(".sentence").first).to_contain_text("phase 1 shadow")
    line = page.get_by_role("row").filter(has_text="2 → 1").filter(has_text=WHY)
    await expect(line.first).to_contain_text("begun")
    # The processes were not restarted: the step is turned back, and written down as complete.
    ahead = page.get_by_role("region", name="Next step")
    await ahead.get_by_role("button", name="Advance …").click()
    await sure(page, "Advance")
    await expect(page.get_by_role("row").filter(has_text="completed").first).to_be_visible()
    await expect(page.locator(".sentence")).to_have_count(0)
    actions = (await both.api.get("/api/console/actions")).json()["items"]
    assert [one["action"] for one in actions[:2]] == ["advance", "roll back"]
    assert {one["why"] for one in actions[:2]} == {WHY}


async def test_a_step_is_refused_while_a_gate_is_red_or_somebody_was_faster(both: Place) -> None:
    step = {"direction": "forward", "why": WHY}
    judged = (await both.api.get("/api/console/migration/gates")).json()
    epoch = judged["epoch"]
    late = await both.api.post("/api/console/migration/steps", json=step | {"epoch": epoch + 7})
    assert (late.status_code, late.json()["type"]) == (409, "/problems/conflicting-state")
    if not judged["ready"]:
        early = await both.api.post("/api/console/migration/steps", json=step | {"epoch": epoch})
        assert early.status_code == 409
        assert "Gates stand in the way" in early.json()["detail"]
    reader = {"X-API-Key": READER}
    forbidden = await both.api.post(
        "/api/console/migration/steps", json=step | {"epoch": epoch}, headers=reader
    )
    assert forbidden.status_code == 403


async def test_a_key_that_may_only_read_sees_everything_and_changes_nothing(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name)
    page = await look(both, key=READER)
    await page.goto(f"{both.url}/console#/dead-letters")
    await expect(page.get_by_role("row").filter(has_text=name).first).to_be_visible()
    for label in ("Redrive", "Discard", "Choose all"):
        await expect(page.get_by_role("button", name=label)).to_have_count(0)
    await expect(page.get_by_text("watcher, read only")).to_be_visible()
    status = await page.evaluate(
        """fetch("api/dead-letters/discard", {method: "POST",
            headers: {"Content-Type": "application/json", "X-Crossfade-Console": "1"},
            body: JSON.stringify({filter: {}, why: "x"})}).then((answer) => answer.status)"""
    )
    assert status == 403


async def test_no_other_site_acts_with_the_browsers_key(both: Place, look: Open) -> None:
    page = await look(both, key=ADMIN)
    (cookie,) = await page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert await page.evaluate("document.cookie") == ""
    held = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    body = {"filter": {"conversationId": "nobody's"}, "why": "forged"}
    async with httpx.AsyncClient(base_url=str(both.api.base_url), headers=held) as forger:
        for headers, status in (
            ({}, 403),  # a form, which can't mark its requests
            ({"X-Crossfade-Console": "1", "Origin": "http://evil.test"}, 403),
            ({"X-Crossfade-Console": "1", "Sec-Fetch-Site": "cross-site"}, 403),
            ({"X-Crossfade-Console": "1", "Sec-Fetch-Site": "same-site"}, 403),
            ({"X-Crossfade-Console": "1", "Sec-Fetch-Site": "same-origin"}, 200),
        ):
            answer = await forger.post("/api/dead-letters/discard", json=body, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
    # And from a real page of another origin, in the browser that has the cookie.
    await page.goto("about:blank")
    outcome = await page.evaluate(
        """async (url) => { try { return (await fetch(url, {method: "POST", credentials: "include",
            headers: {"Content-Type": "application/json", "X-Crossfade-Console": "1"},
            body: "{}"})).status } catch (error) { return "blocked" } }""",
        f"{both.url}/api/dead-letters/discard",
    )
    assert outcome == "blocked"


async def test_signing_out_forgets_the_key_and_a_wrong_one_is_refused(
    both: Place, look: Open
) -> None:
    page = await look(both)
    await page.get_by_label("API key").fill("cf_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert").filter(has_text="not known")).to_be_visible()
    await page.get_by_label("API key").fill(ADMIN)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await page.context.cookies() == []


async def test_a_lost_connection_is_told_and_made_again(on_kafka: Place, look: Open) -> None:
    page = await look(on_kafka)
    live = page.locator("#live")
    await expect(live).to_have_text("live")
    on_kafka.browser_side.refuse()
    on_kafka.browser_side.reset()
    await expect(live).to_have_text("reconnecting")
    await expect(page.get_by_role("alert").filter(has_text="connection")).to_be_visible()
    on_kafka.browser_side.heal()
    await expect(live).to_have_text("live")
    await expect(page.locator("#stale")).to_be_hidden()


async def test_what_is_wrong_is_said_with_its_cause_and_what_to_do(
    both: Place, look: Open, name: str
) -> None:
    page = await look(both, key=ADMIN)
    await expect(page.locator("#live")).to_have_text("live")
    both.database_side.refuse()
    both.database_side.reset()
    try:
        await both.post(name, name)
        alarms = page.locator(".sentence.alarm")
        await expect(alarms.filter(has_text="PostgreSQL does not answer")).to_be_visible()
        await expect(alarms.filter(has_text="not moving")).to_contain_text("1 record waits")
        redis = page.get_by_role("region", name="Log redis")
        await expect(redis.locator(".cell.stalled")).to_have_count(1)
    finally:
        both.database_side.heal()
    await expect(page.locator(".sentence.alarm")).to_have_count(0)


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
    page = await look(both, key=ADMIN, color_scheme=scheme, viewport={"width": 380, "height": 800})
    letters = (await both.api.get("/api/dead-letters", params={"messageId": identifier})).json()
    for address in (
        "#/", f"#/find?q={name}-{'long' * 20}", f"#/message/{identifier}", "#/dead-letters",
        f"#/dead-letter/{letters['items'][0]['id']}", "#/migration", "#/actions",
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


async def test_the_page_is_served_under_a_policy_that_lets_nothing_else_in(both: Place) -> None:
    answer = await both.api.get("/console")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    addresses = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert addresses
    assert all(not one.startswith(("http", "//", "javascript")) for one in addresses)
    again = await both.api.get("/console", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert (await both.api.get("/console/nothing.js")).status_code == 404
