"""A command of a page works as it is copied, in every usual shell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migration_guide.chapters import FOLDER

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^ *```(?:bash|sh)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: page.name)
def test_no_comment_stands_among_commands(page: Path) -> None:
    """An interactive zsh takes ``#`` and what follows for arguments, quotes and keywords."""
    typed = [
        block for block in BLOCK.findall(page.read_text("utf-8")) if not block.startswith("#!")
    ]
    found = [line for block in typed for line in block.splitlines() if re.search(r"(^|\s)#", line)]
    assert found == [], "say it before or after the block"
