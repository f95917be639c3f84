"""Documents say what is there: every relative link leads to a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = _LINK.findall(document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_architecture_walks_through_the_code() -> None:
    """The life of a message is told by files: if there were no links, nothing would be checked."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walk = page.split("## The life of a message")[1].split("\n## ")[0]
    assert len(_LINK.findall(walk)) > 10


def test_the_architecture_names_the_rooms_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = page.split("## Rooms")[1].split("\n## ")[0]
    named = set()
    for cell in re.findall(r"^\| (`[^|]+`) \|", rooms, re.MULTILINE):
        first, *others = re.findall(r"`([a-z0-9_/]+)`", cell)
        named |= {first, *(str(Path(first).with_name(other)) for other in others)}
    assert {room for room in named if not (ROOT / room).is_dir()} == set()
    packages = {path.parent for path in ROOT.glob("*/py.typed")}
    rooms_there = {
        str(init.parent.relative_to(ROOT))
        for package in packages
        for init in package.glob("*/__init__.py")
    }
    assert len(rooms_there) > 40
    assert rooms_there - named == set()
