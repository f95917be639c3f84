"""One word for one thing: class names are unique, and the glossary's words are in the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "transport", "otel", "persistence", "ingress", "migration_guide", "compose",
    "lab/commands", "lab/harness", "lab/load", "lab/proof", "lab/rehearsal", "lab/sending",
    "lab/soak", "lab/specification",
)  # fmt: skip
RETIRED = {
    "desk": "service",
    "doorbell": "notifier",
    "keeper": "monitor",
    "lane": "worker",
    "lanes": "workers",
    "leftovers": "drainer",
    "lender": "client pool",
    "presence": "heartbeat",
    "tally": "counts",
}
"""Words that once named things here, and the field's words that do so now."""
GLOSSARY = (ROOT / "docs" / "concepts.md").read_text("utf-8").split("## Glossary")[1]


def _trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the packages: its path, and its syntax tree."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def _classes() -> dict[str, list[str]]:
    """Return the classes of the packages, each with the files that define it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path)
    return found


def _identifiers(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module gives or uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name


def test_no_two_classes_share_a_name() -> None:
    assert {name: files for name, files in _classes().items() if len(files) > 1} == {}


def test_no_retired_word_names_anything() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in _trees():
        for name in _identifiers(tree):
            for word in re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower()):
                if word in RETIRED:
                    found[f"{word}: say {RETIRED[word]}"].add(path)
    assert found == {}


def test_every_class_of_the_glossary_is_in_the_code() -> None:
    named = set(re.findall(r"`([A-Z]\w+)`", GLOSSARY))
    assert len(named) > 10
    assert named - set(_classes()) == set()
