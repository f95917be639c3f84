"""One word for one thing: class names are unique, and the glossary's words are in the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("transport", "otel", "persistence", "ingress", "migration_guide", "compose")
GLOSSARY = (ROOT / "docs" / "concepts.md").read_text("utf-8").split("## Glossary")[1]


def _classes() -> dict[str, list[str]]:
    """Return the public classes of the packages, each with the files that define it."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_two_public_classes_share_a_name() -> None:
    assert {name: files for name, files in _classes().items() if len(files) > 1} == {}


def test_every_class_of_the_glossary_is_in_the_code() -> None:
    named = set(re.findall(r"`([A-Z]\w+)`", GLOSSARY))
    assert len(named) > 10
    assert named - set(_classes()) == set()
