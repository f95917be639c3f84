"""What ``crossfade doctor`` finds of payload stores; tests/compose/doctor has the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from compose.doctor.observation import Grade, Observation
from compose.doctor.payloads import examine_fallback, examine_processes, examine_store
from persistence.database.pool import Pool
from persistence.payloads.settings import PayloadSettings
from persistence.payloads.store import PayloadStore

KNOWN = {"payload-store": "known"}
_PROCESS = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, started_at, envelope, payload_stores)
VALUES ('one', 'worker', 'h', 1, '1', '', '', 'redis', 'redis', now(), 2, $1)
"""


def folder(path: Path, mark: str | None) -> str:
    """Make a folder, with that mark; return its address."""
    path.mkdir()
    if mark is not None:
        (path / ".crossfade-payloads").write_text(mark)
    return path.as_uri()


def settings(store: str, fallback: str | None = None, **more: Any) -> PayloadSettings:
    return PayloadSettings(payload_store=store, payload_fallback_store=fallback, **more)


async def worst(observations: AsyncIterator[Observation]) -> Observation:
    """Return the worst one, of several the last."""
    found = [one async for one in observations]
    return max(reversed(found), key=lambda one: one.grade)


async def test_the_store_has_to_be_there_and_to_be_the_one_that_it_was(tmp_path: Path) -> None:
    gone = settings((tmp_path / "gone").as_uri())
    assert (await worst(examine_store(gone, known={}))).grade is Grade.FINE  # not used yet
    found = await worst(examine_store(gone, known=KNOWN))
    assert (found.what, found.promise) == ("connection", 1)
    assert "not mounted" in (found.remedy or "")
    assert not (tmp_path / "gone").exists(), "it makes nothing"

    empty = folder(tmp_path / "empty", None)
    for address in (empty, folder(tmp_path / "other", "else")):
        found = await worst(examine_store(settings(address), known=KNOWN))
        assert (found.what, found.grade) == ("identity", Grade.BAD)
    assert list((tmp_path / "empty").iterdir()) == []
    right = folder(tmp_path / "right", "known")
    found = await worst(examine_store(settings(right), known=KNOWN))
    assert (found.what, found.grade) == ("rights", Grade.FINE)


async def test_so_has_its_fallback(tmp_path: Path) -> None:
    store = folder(tmp_path / "store", "known")
    for mark, remedy in ((None, "crossfade payloads copy"), ("else", "names another store")):
        fallback = folder(tmp_path / f"fallback-{mark}", mark)
        found = await worst(examine_fallback(settings(store, fallback), known=KNOWN))
        assert (found.what, found.grade) == ("identity", Grade.BAD)
        assert remedy in (found.remedy or "")
    gone = (tmp_path / "gone").as_uri()
    found = await worst(examine_fallback(settings(store, gone), known=KNOWN))
    assert "mount its disk" in (found.remedy or "")
    assert not (tmp_path / "gone").exists()
    same = settings(store, folder(tmp_path / "same", "known"))
    assert (await worst(examine_fallback(same, known=KNOWN))).what == "rights"
    assert (await worst(examine_fallback(same, known={}))).grade is Grade.UNKNOWN


async def test_a_fallback_that_refuses_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    s3_settings: dict[str, str],
    on_s3: Callable[..., PayloadStore],
) -> None:
    bucket = on_s3(s3_settings)
    await bucket.make_mark("known")
    given = {
        "store": folder(tmp_path / "store", "known"),
        "fallback": s3_settings["PAYLOAD_STORE"],
        "payload_endpoint_url": s3_settings["PAYLOAD_ENDPOINT_URL"],
        "payload_region": s3_settings["PAYLOAD_REGION"],
    }
    found = await worst(examine_fallback(settings(**given), known=KNOWN))
    assert (found.what, found.grade) == ("rights", Grade.FINE)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = await worst(examine_fallback(settings(**given), known=KNOWN))
    assert (found.what, found.grade) == ("connection", Grade.BAD)
    assert "PAYLOAD_FALLBACK_STORE can be reached with these credentials" in (found.remedy or "")


async def test_processes_that_do_not_read_the_store_are_named(database_pool: Pool) -> None:
    old, new = "memory://old", "memory://new"
    await database_pool.execute(_PROCESS, [old])
    found = await worst(examine_processes(database_pool, settings(new, old)))
    assert found.grade is Grade.BAD
    assert f"one reads {old}" in (found.remedy or "")
    found = await worst(examine_processes(database_pool, settings(old, new)))
    assert found.grade is Grade.FINE
    await database_pool.execute("UPDATE processes SET payload_stores = NULL")
    found = await worst(examine_processes(database_pool, settings(old)))
    assert (found.grade, "one" in found.found) == (Grade.UNKNOWN, True)
