"""Who may do what, and what no other site may."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import expect

from tests.console.conftest import ADMIN, OPERATOR, READER, Open, Place
from tests.console.page_actions import bury

pytestmark = pytest.mark.timeout(180)


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


async def test_a_key_that_may_only_act_sees_no_message_and_redrives(
    both: Place, look: Open, name: str
) -> None:
    await bury(both, name)
    page = await look(both, "#/dead-letters", key=OPERATOR)
    letters = page.get_by_role("region", name="Letters").get_by_role("row")
    await expect(letters.filter(has_text="Shown to keys with the scope").first).to_be_visible()
    await expect(page.get_by_text(name)).to_have_count(0)
    links = page.get_by_role("navigation").get_by_role("link")
    await expect(links.filter(has_text=re.compile("Find|Browse|Tail|Actions|Send"))).to_have_count(
        0
    )
    for address in ("find", "browse", "tail", "actions", "dead-letter/1"):
        await page.goto(f"{both.url}/console#/{address}")
        await expect(page.get_by_text("the key deputy lacks the scope read")).to_be_visible()
    await page.goto(f"{both.url}/console#/migration")
    await expect(page.get_by_role("region", name="Next step")).to_be_visible()
    await page.goto(f"{both.url}/console#/dead-letters")
    await letters.get_by_role("checkbox").first.check()
    await page.get_by_role("button", name="Redrive …").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill("mended")
    await dialog.get_by_role("button", name="Redrive", exact=True).click()
    await expect(page.get_by_role("heading", name="Redrives")).to_be_visible()


async def test_no_other_site_acts_with_the_browsers_key(both: Place, look: Open) -> None:
    page = await look(both)
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
    page = await look(both, key="")
    await page.get_by_label("API key").fill("cf_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert").filter(has_text="not known")).to_be_visible()
    await page.get_by_label("API key").fill(ADMIN)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await page.context.cookies() == []


async def test_the_page_is_served_under_a_policy_that_lets_nothing_else_in(both: Place) -> None:
    answer = await both.api.get("/console")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    addresses = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert addresses
    assert all(not address.startswith(("http", "//", "javascript")) for address in addresses)
    again = await both.api.get("/console", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert (await both.api.get("/console/nothing.js")).status_code == 404
