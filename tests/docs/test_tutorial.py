"""The tutorial's commands, typed in its order, do what it says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.requirements import program

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text("utf-8")
BIN = Path(sys.executable).parent


async def _run(command: str, folder: Path, api: str) -> str:
    """Run a block of the page in ``folder`` against ``api``; return what it printed."""
    typed = command.replace("http://localhost:3000", api).replace(
        ".venv/bin/python", sys.executable
    )
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        typed,
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await shell.communicate()
    return said.decode()


async def test_the_tutorial_does_what_it_says(typed_up, tmp_path: Path) -> None:
    program("curl", package="curl")
    program("pgrep", package="procps")
    blocks = re.findall(r"<!-- run -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    first, other, problem, story, stop, second, go_on, page, spoil, letters, discard = blocks
    running, api, _ = await typed_up()

    async def typed(command: str) -> str:
        return await _run(command, tmp_path, api)

    assert '"idempotentHit":false' in await typed(first)

    async def repeated() -> bool:
        answer = await typed(first)
        return '"idempotentHit":true' in answer and '"state":"persisted"' in answer

    await eventually(repeated)
    refused = await typed(other)
    assert '"status":422' in refused
    assert "idempotency-conflict" in refused
    assert '"remedy":' in await typed(problem)
    assert "Persisted" in await typed(story)

    await typed(stop)
    try:
        assert '"state":"pending"' in await typed(second)
    finally:
        await typed(go_on)

    async def both() -> bool:
        answer = await typed(page)
        return 0 < answer.find('"Hello"') < answer.find('"Are you there?"')

    await eventually(both)

    await typed(spoil)

    async def listed() -> bool:
        return "undecodable" in await typed(letters)

    await eventually(listed)
    await typed(discard)
    assert "undecodable" not in await typed(letters)
    assert await running.interrupt() == 0
