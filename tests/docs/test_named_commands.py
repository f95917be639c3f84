"""A remedy that names a command names the options that it needs: it can be copied."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("compose", "ingress", "lab", "migration_guide", "persistence", "transport")
CHANGES = re.compile(
    r"'crossfade migrate (?:plan|run|advance|rollback|cancel|forget|forget-log|retire)\b[^']*'"
)


def _texts(source: str) -> Iterator[str]:
    """Yield each string of a program that is no docstring, what is put into it left out."""
    tree = ast.parse(source)
    parts = {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "NAME"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and node not in parts | docstrings:
            yield str(node.value)


def test_a_command_that_asks_for_a_reason_is_named_with_the_option():
    found = [
        command
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in _texts(path.read_text())
        for command in CHANGES.findall(text)
    ]
    assert len(found) > 10
    assert [command for command in found if "--why" not in command] == []
