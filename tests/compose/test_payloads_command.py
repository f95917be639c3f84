"""``crossfade payloads`` with a store that is not the database's own, or is down."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.commands.payloads import app
from persistence.database.pool import Pool
from persistence.fleet.payload_identity import confirm
from tests.payloads.stores import opened


@pytest.mark.parametrize("arguments", [["verify"], ["sweep", "--yes"]], ids=" ".join)
async def test_a_store_of_another_database_is_refused(
    tmp_path: Path,
    database_url: str,
    database_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    await confirm(database_pool, opened(f"file://{tmp_path}/ours"))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PAYLOAD_STORE", f"file://{tmp_path}/theirs")
    ended = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert ended.exit_code == 3, ended.output
    assert "error:" in ended.output
    assert "Traceback" not in ended.output
