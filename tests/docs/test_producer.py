"""The producer that ``docs/use_from_your_application.md`` shows stores a message once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from crossfade import Client
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]


async def test_the_producer_of_the_page_repeats_with_the_same_key(up) -> None:
    page = (ROOT / "docs" / "use_from_your_application.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    _, api, _ = await up()
    names: dict[str, Any] = {}
    for _ in range(2):
        exec(program.replace("http://localhost:3000", api), names)
    with Client(api) as client:
        rows = await eventually(lambda: list(client.messages("order-1042")), 30.0)
        (message,) = rows
    assert message.client_message_id == "order-1042-paid"
