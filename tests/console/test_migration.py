"""The migration is shown, and stepped."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from migration_guide.machine import Machine
from persistence.database.pool import connect
from persistence.fleet import migration_state
from persistence.settings import PersistenceSettings
from tests.console.conftest import READER, Open, Place
from tests.console.mismatches import differ
from tests.console.page_actions import TRACEPARENT, WHY, sure

pytestmark = pytest.mark.timeout(180)


async def test_the_migration_is_shown_with_its_gates_and_stepped_with_a_reason(
    both: Place, look: Open
) -> None:
    page = await look(both)
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
    assert [action["action"] for action in actions[:2]] == ["advance", "roll back"]
    assert {action["why"] for action in actions[:2]} == {WHY}


async def test_a_step_is_refused_where_somebody_was_faster_or_may_only_read(both: Place) -> None:
    step = {"direction": "forward", "why": WHY}
    epoch = (await both.api.get("/api/console/migration/gates")).json()["epoch"]
    late = await both.api.post("/api/console/migration/steps", json=step | {"epoch": epoch + 7})
    assert (late.status_code, late.json()["type"]) == (409, "/problems/conflicting-state")
    reader = {"X-API-Key": READER}
    forbidden = await both.api.post(
        "/api/console/migration/steps", json=step | {"epoch": epoch}, headers=reader
    )
    assert forbidden.status_code == 403


async def test_a_queued_step_is_taken_away_only_if_it_is_the_one_that_was_shown(
    both: Place, look: Open
) -> None:
    settings = PersistenceSettings(database_url=both.settings["DATABASE_URL"])
    pool = await connect(settings)
    try:
        machine = Machine(pool)

        async def queue(epoch: int, who: str) -> int:
            options = {"why": WHY, "seconds": 600, "red": ["parity"]}
            return (await machine.queue(epoch, 3, who=who, **options)).epoch

        state = await migration_state.state(pool)
        assert state is not None
        epoch = await queue(state.epoch, "ann")
        page = await look(both, "#/migration")
        await expect(page.locator(".sentence")).to_contain_text("queued by ann")
        await page.get_by_role("button", name="Take it away …").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Reason").fill(WHY)
        emptied = await machine.cancel(epoch, who="ann", why=WHY)
        await queue(emptied.epoch, "bob")
        await dialog.get_by_role("button", name="Take it away").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("meanwhile")
        state = await migration_state.state(pool)
        assert state is not None
        assert state.queued is not None
        assert state.queued.who == "bob"
        await dialog.get_by_role("button", name="Leave").click()
        await expect(page.locator(".sentence")).to_contain_text("queued by bob")
        await page.get_by_role("button", name="Take it away …").click()
        await sure(page, "Take it away")
        await expect(page.locator(".sentence")).to_have_count(0)
    finally:
        await pool.close()


async def test_an_outage_of_the_database_is_told_beside_what_was_read_before(
    both: Place, look: Open
) -> None:
    page = await look(both, "#/migration")
    await expect(page.locator(".phases li.here")).to_contain_text("2 mirror")
    old = page.get_by_role("alert").filter(has_text="What stands here is from before")
    await expect(old).to_have_count(0)
    both.database_side.refuse()
    both.database_side.reset()
    try:
        await expect(old).to_be_visible()
        await expect(page.locator(".phases li.here")).to_contain_text("2 mirror")
    finally:
        both.database_side.heal()
    await expect(old).to_have_count(0)


async def test_what_differs_is_counted_by_class_and_shown_with_places_and_trace(
    unequal: Place, look: Open, name: str
) -> None:
    missing, other = await differ(unequal, name, trace=TRACEPARENT)
    page = await look(unequal, "#/migration")
    parity = page.locator("section").filter(has=page.get_by_text("Parity: redis and kafka"))
    await expect(parity.locator(".state.red")).to_have_text(re.compile(r"^\d+ differ$"))
    await expect(parity).to_contain_text("crossfade migrate backfill")
    for identifier, finding, shadow in (
        (missing, "missing in the shadow", "not there"),
        (other, "different bytes", re.compile(r"^\d+$")),
    ):
        sample = parity.get_by_role("row").filter(has_text=identifier)
        await expect(sample.locator("td").first).to_have_text(finding)
        await expect(sample.locator("td[data-label='In the primary']")).to_have_text(
            re.compile(r"^\d+-\d+$")
        )
        await expect(sample.locator("td[data-label='In the shadow']")).to_have_text(shadow)
        await expect(sample).to_contain_text("-correlation")
        trace = sample.get_by_role("link", name="trace")
        assert await trace.get_attribute("href") == f"http://traces.test/{'ab' * 16}"
    ahead = page.get_by_role("region", name="Next step")
    await ahead.get_by_role("button", name="Judge again").click()
    gate = ahead.locator(".gates li").filter(has_text="parity")
    await expect(gate).to_contain_text("red")
    await expect(gate).to_contain_text("the logs differ")
    # A request for it is refused with the reason.
    epoch = (await unequal.api.get("/api/console/migration/gates")).json()["epoch"]
    step = {"direction": "forward", "why": WHY, "epoch": epoch}
    refused = await unequal.api.post("/api/console/migration/steps", json=step)
    assert refused.status_code == 409
    assert "Gates stand in the way" in refused.json()["detail"]
    assert "parity is red: " in refused.json()["detail"]
    await parity.get_by_role("link", name=missing).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Message")


async def test_kafka_alone_has_no_step_ahead_and_a_gate_on_the_way_back(
    on_kafka: Place, look: Open
) -> None:
    page = await look(on_kafka, "#/migration")
    await expect(page.locator(".phases li.here")).to_contain_text("5 kafka")
    ahead = page.get_by_role("region", name="Next step")
    await expect(ahead).not_to_contain_text("Judging")
    await expect(page.get_by_role("region", name="Next step").get_by_role("button")).to_have_count(
        0
    )
    back = page.get_by_role("region", name="Step back")
    await expect(back).to_contain_text("Roll back: 5 kafka → 4 primary")
    await expect(back.locator(".gates li").first).to_be_visible()
