"""How everything is now: both logs, what is wrong, and a connection that is lost."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.console.conftest import PARTITIONS, Open, Place
from tests.support.eventually import eventually
from tests.support.kafka import KafkaNode

pytestmark = pytest.mark.timeout(180)


async def test_both_logs_are_shown_with_every_partition_and_what_is_so(
    both: Place, look: Open
) -> None:
    page = await look(both)
    for log, role in (("redis", "read by workers"), ("kafka", "shadow")):
        part = page.get_by_role("region", name=f"Log {log}")
        await expect(part.get_by_role("option")).to_have_count(PARTITIONS)
        await expect(part).to_contain_text(role)
        await expect(part).not_to_contain_text("can't be used")
    await expect(page.locator(".sentence").first).to_be_visible()
    await expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
    processes = page.get_by_role("region", name="Processes")
    await expect(processes).to_contain_text("redis, shadow kafka sync, reads redis")


async def test_a_log_that_does_not_answer_is_unknown_and_never_zero(
    both: Place, look: Open, kafka_server: KafkaNode
) -> None:
    page = await look(both)
    shadow = page.get_by_role("region", name="Log kafka")
    await kafka_server.suspend()
    try:
        await expect(shadow.locator(".cell.unknown")).to_have_count(PARTITIONS)
        await expect(shadow.locator(".cell .wait").first).to_have_text("unknown")
        await expect(shadow.locator(".cell .lag").first).not_to_have_text(re.compile(r"\d"))
        await expect(shadow.locator(".sums")).to_have_text("unknown")
        said = page.locator(".sentence").filter(has_text="The log kafka can't be used")
        await expect(said).to_contain_text("POSTs are answered 503")
    finally:
        await kafka_server.resume()
    await expect(shadow.locator(".cell.unknown")).to_have_count(0)


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


async def test_a_connection_that_falls_silent_is_made_again(on_kafka: Place, look: Open) -> None:
    """It ends in no error: a router forgets it, or a proxy keeps it open before a hung process."""
    page = await look(on_kafka)
    live = page.locator("#live")
    await expect(live).to_have_text("live")
    on_kafka.browser_side.black_hole()
    try:
        async with page.expect_request("**/api/console/events", timeout=40_000):
            await expect(live).to_have_text("reconnecting")
    finally:
        on_kafka.browser_side.heal()
    await expect(live).to_have_text("live")


async def test_what_is_wrong_is_said_with_its_cause_and_what_to_do(
    both: Place, look: Open, name: str
) -> None:
    page = await look(both)
    await expect(page.locator("#live")).to_have_text("live")
    both.database_side.refuse()
    both.database_side.reset()
    try:
        await both.post(name, name)
        alarms = page.locator(".sentence.alarm")
        await expect(alarms.filter(has_text="PostgreSQL can't be used")).to_be_visible()
        await expect(alarms.filter(has_text="not moving")).to_contain_text("1 record waits")
        redis = page.get_by_role("region", name="Log redis")
        await expect(redis.locator(".cell.stalled")).to_have_count(1)
    finally:
        both.database_side.heal()
    await expect(page.locator(".sentence.alarm")).to_have_count(0)


async def test_the_last_hour_is_drawn_and_told_as_a_table(on_kafka: Place, look: Open) -> None:
    page = await look(on_kafka)
    hour = page.get_by_role("region", name="The last hour")
    await expect(hour.get_by_role("img", name="Messages a second: accepted now")).to_be_visible()
    await expect(hour.get_by_role("img")).to_have_count(4)
    await hour.get_by_text("The last hour as a table").click()
    await expect(hour.get_by_role("columnheader", name="POST p99, worst")).to_be_visible()

    async def is_known() -> bool:
        """A point comes every ten seconds; one from while the log was silent has a gap."""
        kept = (await on_kafka.api.get("/api/console/hour")).json()["points"]
        return bool(kept) and kept[-1]["waiting"] is not None

    await eventually(is_known, every=0.5)
    await expect(hour.get_by_role("row").nth(1)).to_contain_text(":")


async def test_a_page_that_opens_never_says_that_the_connection_is_lost(
    on_kafka: Place, look: Open
) -> None:
    page = await look(on_kafka)
    await page.add_init_script(
        """
        window.seen = [];
        new MutationObserver(() => {
          const stale = document.getElementById("stale");
          if (stale && !stale.hidden) window.seen.push(stale.textContent);
        }).observe(document, { subtree: true, attributes: true, childList: true });
        """
    )
    await page.reload()
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator(".sentence").first).to_be_visible()
    assert await page.evaluate("window.seen") == []
