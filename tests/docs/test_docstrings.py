"""Docstrings are Markdown, as the documentation site reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROLE = re.compile(r":(attr|class|data|exc|func|meth|mod):`")


def test_names_are_literals_and_not_roles_of_sphinx() -> None:
    """The site shows a role as it stands. Write ``name``."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in listed.stdout.split()
        if (ROOT / name).exists()
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1)
        if _ROLE.search(line)
    ]
    assert found == []
