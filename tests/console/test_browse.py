"""Either log is browsed: offsets, times, keys, headers, and bodies as they are best read."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, Place
from tests.console.page_actions import HOSTILE
from transport.contract import Envelope, Topic
from transport.message.partitioner import partition_for

pytestmark = pytest.mark.timeout(180)


async def test_a_record_is_reached_from_its_message_and_read_in_every_form(
    either: Place, look: Open, name: str
) -> None:
    identifier = (await either.post(name, name, HOSTILE))["messageId"]
    await either.persisted(identifier)
    page = await look(either, f"#/message/{identifier}")
    partition = partition_for(name, either.log.partitions)
    (record,) = [
        record for record in await either.log.read(Topic.MESSAGES, partition) if record.key == name
    ]
    await page.get_by_role("link", name=record.offset, exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Browse a log")
    await page.get_by_role("button", name=f"Open {record.offset}", exact=True).click()
    body = page.get_by_label(f"Body of {record.offset}")
    await expect(body).to_contain_text(f'  "conversationId": "{name}",\n')
    await expect(body).to_contain_text("<script>")
    await page.get_by_label("Bodies").select_option("text")
    assert await body.inner_text() == record.body.decode()
    await page.get_by_label("Bodies").select_option("hex")
    await expect(body).to_contain_text("0000  7b 22 74 79 70 65 22 3a")
    assert await page.evaluate("document.body.dataset.hacked") is None
    await page.reload()  # the address is the place
    await expect(
        page.get_by_role("button", name=f"Open {record.offset}", exact=True)
    ).to_be_visible()


async def test_a_partition_is_paged_through_and_jumped_about_in(
    either: Place, look: Open, name: str
) -> None:
    partition = partition_for(name, either.log.partitions)
    sent = [
        Envelope(message_id=f"{name}-{n}", partition=partition, key=f"{name}-{n}",
                 body=b"\xff\xfe" if n == 59 else b"[" * 5000 if n == 58 else b"junk", headers={})
        for n in range(60)
    ]  # fmt: skip
    await either.log.publish(sent, remember=False)
    stands = [
        record for record in await either.log.read(Topic.MESSAGES, partition, limit=10_000)
        if record.key.startswith(name)
    ]  # fmt: skip
    page = await look(either, f"#/browse?log={either.log.name}&partition={partition}")
    rows = page.get_by_role("row").filter(has_text=name)
    await expect(rows).to_have_count(50)
    await expect(rows.last).to_contain_text(stands[-1].offset)
    await expect(rows.last).to_contain_text("not one of ours")
    await page.get_by_role("button", name="Older").click()
    await expect(rows).to_have_count(10)
    await page.get_by_role("button", name="Newer").click()
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Newer").click()
    await expect(page.get_by_text("Nothing newer yet.")).to_be_visible()
    await page.get_by_label("From").select_option("at")
    await page.get_by_role("textbox", name="Offset").fill(stands[58].offset)
    await page.get_by_role("button", name="Show").click()
    await expect(rows).to_have_count(2)
    await page.get_by_role("button", name="Open").nth(1).click()
    await expect(page.get_by_text("Shown as it is: not UTF-8")).to_be_visible()
    await expect(page.locator("pre")).to_have_text("0000  ff fe" + " " * 44 + "..")
    await page.get_by_label("Bodies").select_option("json")
    await page.get_by_role("button", name="Open").first.click()
    await expect(page.get_by_text("Shown as it is: not JSON")).to_be_visible()
    await page.get_by_role("textbox", name="Offset").fill("<no offset>")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("p.problem")).to_contain_text("<no offset>")
    await page.get_by_label("From").select_option("beginning")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("row").nth(1)).to_contain_text(
        (await either.log.read(Topic.MESSAGES, partition, limit=1))[0].offset
    )
