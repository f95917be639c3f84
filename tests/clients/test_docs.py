"""The programs in docs/clients.md run as they stand there, one after the other."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from .conftest import API_KEY, Site

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")


def _blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL))


async def test_the_python_on_the_page_runs(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "page.py"
    program.write_text(_blocks("python").replace("http://localhost:3000", site.url), "utf-8")
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        env={"CROSSFADE_API_KEY": API_KEY, "PYTHONWARNINGS": "ignore::ResourceWarning"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await running.communicate()
    assert running.returncode == 0, errors.decode()
    assert "conversationId" in said.decode()
    assert await site.rows("order-7", 3) == ["Hello", "Hello again", '{"paid": true}']
    assert len(await site.rows("order-8", 1500)) == 1500
