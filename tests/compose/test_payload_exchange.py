"""Real processes: one whose payload stores do not fit those of the others does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistence.fleet.processes import processes

_OF_ANOTHER_VERSION = "UPDATE processes SET payload_stores = NULL"


def stores(store: str, fallback: str = "") -> dict[str, str]:
    return {"PAYLOAD_STORE": store, "PAYLOAD_FALLBACK_STORE": fallback}


@pytest.fixture
def addresses(tmp_path: Path) -> tuple[str, str]:
    """Two folders of one identity, as ``payloads copy`` leaves them."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".crossfade-payloads").write_text("0" * 32)
    return (tmp_path / "old").as_uri(), (tmp_path / "new").as_uri()


async def test_an_exchange_without_the_fallback_is_refused_until_every_process_has_it(
    crossfade, places, database_pool, addresses
):
    old, new = addresses
    worker = await crossfade("worker", **places, **stores(old))
    await worker.says('"event":"Worker started')
    (first,) = await processes(database_pool)

    for settings in (stores(new), stores(new, old)):
        refused = await crossfade("serve", **places, **settings)
        assert await refused.ends() == 2
        for part in (first.member, f"PAYLOAD_FALLBACK_STORE={new}", "Move to another store"):
            assert part in refused.text
    assert [process.member for process in await processes(database_pool)] == [first.member]

    await database_pool.execute(_OF_ANOTHER_VERSION)
    refused = await crossfade("serve", **places, **stores(new, old))
    assert await refused.ends() == 2
    assert "not known which payload stores" in refused.text

    assert await worker.terminate() == 0
    worker = await crossfade("worker", **places, **stores(old, new))
    await worker.says('"event":"Worker started')
    writes = await crossfade("serve", **places, **stores(new, old))
    await writes.says('"event":"Worker started')

    late = await crossfade("worker", **places, **stores(old))  # of yesterday's settings
    assert await late.ends() == 2
    assert f"writes to {new}" in late.text
    for process in (writes, worker):
        assert await process.terminate() == 0
