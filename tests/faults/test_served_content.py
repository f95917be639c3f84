"""The checker judges large content by the bytes that a reader gets, not by the row's facts."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from lab.harness.anomaly import What
from lab.harness.checker import check
from lab.harness.content_name import is_large
from lab.harness.final import gather
from lab.harness.large_content import LargeContent
from lab.load.form import Form
from tests.faults.deployment import Deployment


async def test_other_bytes_and_no_bytes_are_found(deployment: Deployment, tmp_path: Path) -> None:
    store = tmp_path / "payloads"
    ingresses, _ = await deployment.run(PAYLOAD_STORE=store.resolve().as_uri())
    async with deployment.load(ingresses, conversations=8, pause=0.3, large=0.8) as load:
        await load.goes_on(40)
    final = await deployment.assert_promises_held()
    assert sum(is_large(row.content) for row in final.rows) > 20
    connection = await asyncpg.connect(deployment.database_url)
    query = (
        "SELECT idempotency_key, payload_key FROM messages"
        " WHERE payload_key IS NOT NULL AND content = ''"
    )
    (altered, one), (gone, other), *_ = await connection.fetch(query)
    await connection.close()
    (store / one).write_bytes(bytes(len((store / one).read_bytes())))
    (store / other).unlink()
    final = await gather(deployment.database_url, ingresses[0].url)
    found = check(deployment.history, final)
    assert {anomaly.where for anomaly in found} == {altered, gone}
    assert {anomaly.what for anomaly in found} == {What.ALTERED, What.CONFLICT_LOST}


def test_a_share_is_large_and_comes_every_way() -> None:
    contents = [LargeContent(0.33).of(f"content {n}") for n in range(3000)]
    large = [content for content in contents if content.data is not None]
    assert 0.3 < len(large) / len(contents) < 0.36
    assert all(is_large(content.name) for content in large)
    body = {"content": "", "contentType": "text"}
    requests = [content.request(body, as_form=n % 2 == 0) for n, content in enumerate(large)]
    assert any(isinstance(request, dict) for request in requests)
    forms = [request for request in requests if isinstance(request, Form)]
    assert {form.message["contentType"] for form in forms} == {"text", "application/octet-stream"}
    assert min(len(content.data or b"") for content in large) > 2048
    assert max(len(form.content) for form in forms) > 2**20  # more than is kept in memory
    assert LargeContent(0.33).of("content 1") == contents[1]
