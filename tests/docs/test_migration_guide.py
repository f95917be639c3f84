"""The guide is what the phases say, and every command it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from compose.cli import application
from migration_guide.chapters import FOLDER, chapters
from migration_guide.phases import STEPS, phases
from persistence.fleet.log_choice import FIRST_PAIR

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs" / "KAFKA_MIGRATION_GUIDE.md",
    ROOT / "docs" / "deployment_guide.md",
    *sorted(FOLDER.glob("*.md")),
]


def test_chapters_are_as_the_phases_say():
    """Else: python -m migration_guide.chapters."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.md")} == chapters()


def test_phases_are_neighbours_that_differ_in_one_thing():
    """Each step changes where is written or where is read, never both."""
    every = phases(FIRST_PAIR)
    for step in STEPS:
        before, after = every[step.origin].choice, every[step.to].choice
        written = before[:3] != after[:3]
        assert written != (before.consume_from != after.consume_from), step
        assert abs(step.origin - step.to) == 1
    assert len({(step.origin, step.to) for step in STEPS}) == 10


def test_every_command_that_the_guides_name_is_there():
    named = set()
    for page in PAGES:
        named |= set(
            re.findall(r"crossfade ((?:migrate |dlq |db |keys )?[a-z]+)", page.read_text())
        )
    # Of these the chapters only say that they exist; their own tests run them.
    named -= {"migrate backfill", "migrate parity", "migrate rehearse"}
    assert len(named) > 8
    for command in sorted(named):
        result = CliRunner().invoke(application(), [*command.split(), "--help"])
        assert result.exit_code == 0, command
