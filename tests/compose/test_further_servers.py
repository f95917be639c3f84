"""What an operator is told of servers that only some messages and pages need."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy


async def test_a_payload_store_and_a_read_server_are_told_of_until_they_work_again(
    crossfade, places, tmp_path
):
    rows = httpx.URL(places["DATABASE_URL"])
    mark = tmp_path / "payloads" / ".crossfade-payloads"
    async with FaultProxy(rows.host, rows.port or 5432) as proxy:
        settings = {
            **places,
            "PAYLOAD_STORE": mark.parent.as_uri(),
            "DATABASE_READ_URL": str(rows.copy_with(host=proxy.host, port=proxy.port)),
        }
        running = await crossfade("serve", **settings)
        url = f"http://127.0.0.1:{places['PORT']}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as api:

            async def health() -> list[dict[str, Any]]:
                return (await api.get("/api/console/status")).json()["health"]

            async def is_calm() -> bool:
                try:
                    return [it["level"] for it in await health()] == ["ok"]
                except httpx.TransportError:
                    return False

            await eventually(is_calm)
            whose = mark.read_text("utf-8")
            mark.unlink()
            proxy.refuse()
            proxy.reset()

            expected = [
                ("alarm", f"The payload store ({settings['PAYLOAD_STORE']}) can't be used"),
                ("warning", "The database of reads can't be used"),
            ]

            async def is_told() -> bool:
                told = [(it["level"], it["text"].partition(": ")[0]) for it in await health()]
                return told == expected

            await eventually(is_told)
            shown = await crossfade("status", **settings)
            assert await shown.ends() == 1, "one of the two is an alarm"
            for level, text in expected:
                (line,) = [line for line in shown.lines if text in line]
                assert line.startswith(level)
            proxy.heal()
            mark.write_text(whose, encoding="utf-8")
            await eventually(is_calm)
        assert await running.terminate() == 0
