"""Docstrings are Markdown, as the documentation site reads it, and name things by nouns."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lines(pattern: str) -> list[str]:
    """Return the lines of the checkout's Python files that match."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    matches = re.compile(pattern)
    return [
        f"{name}:{number}: {line.strip()}"
        for name in names
        if (ROOT / name).exists()
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1)
        if matches.search(line)
    ]


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        (
            "write ``name``: the site knows no roles of Sphinx",
            r":(attr|class|data|exc|func|meth|mod):`",
        ),
        (
            "name the thing that is returned by a noun; say Wait until for a wait",
            r'"""(Return|Yield|Tell|Say) (what|where|who|whom|why|when|how)\b',
        ),
    ],
)
def test_no_line_has_a_fault_that_was_mended_everywhere(fault: str, pattern: str) -> None:
    assert _lines(pattern) == [], fault
