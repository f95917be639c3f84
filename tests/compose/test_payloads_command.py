"""``crossfade payloads`` with a store that is not the database's own, or is down."""

from __future__ import annotations

import asyncio
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.commands.payloads import app
from persistence.database.pool import Pool
from persistence.fleet.payload_identity import confirm
from tests.payloads.stores import opened


@pytest.mark.parametrize(
    "arguments", [["verify"], ["sweep", "--yes"], ["copy", "--to", "file:///nowhere"]], ids=" ".join
)
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


async def test_a_copy_tells_what_it_did_and_what_is_damaged(
    tmp_path: Path, database_url: str, database_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = opened(f"file://{tmp_path}/old")
    await confirm(database_pool, old)
    for number, named in enumerate((b"right", b"right", b"other")):
        message = f"0188c0ff-5f5f-8abc-9def-00000000000{number}"
        await old.put(f"{message}/{sha256(named).hexdigest()}", b"right")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PAYLOAD_STORE", f"file://{tmp_path}/old")

    async def copy(*options: str) -> tuple[int, str]:
        ended = await asyncio.to_thread(CliRunner().invoke, app, ["copy", *options])
        return ended.exit_code, ended.stdout

    to = ("--to", f"file://{tmp_path}/new")
    status, output = await copy(*to, "--dry-run", "--json")
    assert (status, json.loads(output)["copied"]) == (0, 3)
    assert not list((tmp_path / "new").iterdir())
    status, output = await copy(*to, "--json")
    report = json.loads(output)
    assert (status, report["copied"], len(report["faults"])) == (1, 2, 1)
    assert report["newest"]
    status, output = await copy(*to)
    assert status == 1
    assert "source" in output
    assert (await copy("--to", f"file://{tmp_path}/old"))[0] == 2
    assert (await copy())[0] == 2  # nobody says where to
    monkeypatch.setenv("PAYLOAD_STORE", to[1])
    monkeypatch.setenv("PAYLOAD_FALLBACK_STORE", f"file://{tmp_path}/old")
    status, output = await copy("--json")  # the two settings say all
    assert json.loads(output)["there"] == 2


async def test_a_folder_is_not_copied_into_itself(
    tmp_path: Path, database_url: str, database_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await confirm(database_pool, opened(f"file://{tmp_path}/old"))
    (tmp_path / "new").symlink_to(tmp_path / "old")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("PAYLOAD_STORE", f"file://{tmp_path}/old")
    arguments = ["copy", "--to", f"file://{tmp_path}/new"]
    ended = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", ended.output).split())
    assert (ended.exit_code, "is the store to copy from" in said) == (2, True), said
