"""wrk: as many requests as it can send, each connection used again and again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.hostile.clients.conftest import Served
from tests.support.eventually import eventually
from tests.support.requirements import program

_SCRIPT = Path(__file__).with_name("programs") / "post.lua"


async def test_every_request_of_wrk_is_accepted_and_is_one_row(
    served: Served, tmp_path: Path
) -> None:
    wrk = program("wrk", package="wrk")
    process = await asyncio.create_subprocess_exec(
        wrk, "--threads", "2", "--connections", "16", "--duration", "2s",
        "--script", str(_SCRIPT), f"{served.url}/api/messages", "--", str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    totals = json.loads(out.decode().splitlines()[-1])
    assert totals.pop("requests") > 100
    assert set(totals.values()) == {0}  # errors of each kind

    statuses, ids = _answers(tmp_path)
    assert set(statuses) == {"202"}
    assert len(set(ids)) == len(ids)

    async def all_there() -> bool:
        rows = await served.pool.fetch("SELECT id FROM messages WHERE sender_id = 'wrk'")
        return set(ids) <= {str(row["id"]) for row in rows}

    await eventually(all_there)


def _answers(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the status and the message id of each answer that the threads of wrk wrote down."""
    lines = [line for file in folder.iterdir() for line in file.read_text().splitlines()]
    statuses, ids = zip(*(line.split() for line in lines), strict=True)
    return statuses, ids
