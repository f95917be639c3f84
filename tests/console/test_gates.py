"""A gate that is not green is passed by itself, with a reason of its own, or not at all."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import expect

from persistence.chain.links import Marks
from persistence.chain.table import change as change_chain
from persistence.chain.table import read as read_chain
from tests.console.conftest import Open, Place
from tests.console.mismatches import differ
from tests.console.page_actions import TRACEPARENT, WHY, connected
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(180)

_STEPS = "/api/console/migration/steps"
_WATERMARK, _PARITY = "the place is known from the runbook", "the two were looked at"
_LAGGARD = """
INSERT INTO processes SELECT (jsonb_populate_record(one, '{
    "member": "laggard", "transport_shadow": null, "transport_shadow_mode": null,
    "consume_from": "redis", "transport": "redis", "owned": {}
}')).*
FROM processes AS one LIMIT 1
"""


async def _step(place: Place, direction: str = "forward") -> dict[str, Any]:
    """Return a request for the next step on what stands now."""
    judged = await place.api.get("/api/console/migration/gates", params={"direction": direction})
    return {"direction": direction, "epoch": judged.json()["epoch"], "why": WHY}


async def _refusal(place: Place, **more: Any) -> str:
    refused = await place.api.post(_STEPS, json=await _step(place) | more)
    assert refused.status_code == 409, refused.text
    detail: str = refused.json()["detail"]
    return detail


async def test_every_gate_in_the_way_is_named_with_its_verdict_or_the_step_is_refused(
    unequal: Place, name: str
) -> None:
    await differ(unequal, name, trace=TRACEPARENT)
    unknown, red = {"watermark": _WATERMARK}, {"parity": _PARITY}
    said = await _refusal(unequal, acceptUnknown=unknown)
    assert "parity is red: over" in said
    assert "watermark" not in said
    said = await _refusal(unequal, overrule=red)
    assert "watermark is unknown: it is not recorded" in said
    assert "parity" not in said
    # Accepted as unknown, and red: another verdict is another decision.
    said = await _refusal(unequal, acceptUnknown=unknown | red)
    assert "parity is red: over" in said
    assert "(accepted as unknown only)" in said
    said = await _refusal(unequal, overrule=red | unknown)
    assert "(nobody can pass it)" in said
    said = await _refusal(unequal, overrule=red | {"party": "a slip"}, acceptUnknown=unknown)
    assert "no gate 'party': its gates are processes, identity, workers" in said
    blank = await unequal.api.post(
        _STEPS, json=await _step(unequal) | {"overrule": {"parity": ""}, "acceptUnknown": unknown}
    )
    assert blank.status_code == 422


async def test_each_gate_is_asked_for_and_recorded_by_itself_and_none_slips_through(
    unequal: Place, look: Open, name: str
) -> None:
    await differ(unequal, name, trace=TRACEPARENT)
    page = await look(unequal, "#/migration")
    ahead = page.get_by_role("region", name="Next step")
    await expect(ahead.locator(".gates li").filter(has_text="parity")).to_contain_text("red")
    await ahead.get_by_role("button", name="Advance …").click()
    dialog = page.get_by_role("dialog")
    watermark = dialog.get_by_label("Why go on although watermark is unknown")
    parity = dialog.get_by_label("Why go on although parity is red")
    await expect(watermark).to_be_focused()
    await expect(parity).to_have_accessible_description(
        re.compile(r"the logs differ: \d+ missing_in_shadow, \d+ different_bytes")
    )
    go = dialog.get_by_role("button", name="Advance")
    await watermark.fill(_WATERMARK)
    await dialog.get_by_label("Reason").fill(WHY)
    for nothing in ("", "  "):
        await parity.fill(nothing)
        await go.click()
        await expect(parity).to_be_focused()
    await parity.fill(_PARITY)
    async with connected(unequal) as database:
        await database.execute(_LAGGARD)
        beating = asyncio.create_task(_beat(database))
        try:
            await go.click()
            await expect(dialog.get_by_role("alert")).to_contain_text("processes is red: ")
            await expect(dialog.get_by_role("alert")).not_to_contain_text("parity")
        finally:
            beating.cancel()
            await asyncio.wait([beating])
            await database.execute("DELETE FROM processes WHERE member = 'laggard'")
    await go.click()
    await expect(dialog).to_have_count(0)
    await expect(page.locator(".sentence").first).to_contain_text("phase 3 consume")
    line = page.get_by_role("row").filter(has_text="2 → 3").first
    await expect(line).to_contain_text(f"went on although parity was not green: {_PARITY}")
    await page.get_by_role("link", name="Actions").click()
    for gate, what, why, verdict in (
        ("parity", "overrule gate", _PARITY, "passed; it was red: over"),
        ("watermark", "accept unknown gate", _WATERMARK, "passed; it was unknown: it is not"),
    ):
        cells = page.get_by_role("row").filter(has_text=f"gate {gate}, step from").first
        for text in (what, why, verdict, unequal.who):
            await expect(cells).to_contain_text(text)
    await _mark_both_logs(unequal)  # so the message that only Kafka has becomes a row

    async def is_back() -> bool:
        back = await unequal.api.post(_STEPS, json=await _step(unequal, "back"))
        assert back.status_code == 202, back.text
        return True

    await eventually(is_back, every=1.0)
    await page.get_by_role(
        "link", name="Migration"
    ).click()  # which writes down that it is complete
    await expect(page.locator(".phases li.here")).to_contain_text("2 mirror")


async def _mark_both_logs(place: Place) -> None:
    """Record that both logs are whole, as the end of a step does."""
    async with connected(place) as database:
        chain = await read_chain(database)
        marks = Marks(await place.log.identity(), {})
        both = chain.marked({"redis": marks}, "redis", "kafka")
        assert await change_chain(database, both, seen=chain.version)


async def _beat(database: Any) -> None:
    """Let the process on another phase be heard of until cancelled."""
    while True:
        await database.execute("UPDATE processes SET seen_at = now() WHERE member = 'laggard'")
        await asyncio.sleep(0.5)
