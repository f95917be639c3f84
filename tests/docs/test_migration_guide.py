"""The guide is what the phases say, and every command it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from compose.cli import application
from migration_guide.chapters import FOLDER, chapters
from migration_guide.gates import GATES, OVERRIDABLE
from migration_guide.phases import STEPS, phases
from persistence.fleet.log_choice import FIRST_PAIR

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs" / "KAFKA_MIGRATION_GUIDE.md",
    ROOT / "docs" / "deployment_guide.md",
    *sorted(FOLDER.glob("*.md")),
]


def test_chapters_are_as_the_phases_say():
    """If not: ``make pages``."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.md")} == chapters()


def test_the_guide_says_of_each_gate_before_which_steps_it_is_asked():
    _, _, section = PAGES[0].read_text("utf-8").partition("## What each gate asks")
    told = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE))
    asked = {name: [f"{s.origin}→{s.to}" for s in STEPS if name in s.gates] for name in GATES}
    every = [f"{step.origin}→{step.to}" for step in STEPS]
    assert told == {
        name: "every step" if steps == every else ", ".join(steps) for name, steps in asked.items()
    }


def test_the_guide_lists_the_gates_of_each_step_back():
    rows = re.findall(r"^\| (\d) to (\d) \| ([^|]+) \|", PAGES[0].read_text("utf-8"), re.MULTILINE)
    told = {(int(origin), int(to)): re.findall(r"`(\w+)`", gates) for origin, to, gates in rows}
    assert told == {(s.origin, s.to): list(s.gates) for s in STEPS if not s.forward}


def test_the_guide_lists_the_gates_that_cannot_be_overruled():
    found = re.search(r"can't\s+be overruled: ([^.]+)\.", PAGES[0].read_text("utf-8"))
    assert found is not None
    assert set(re.findall(r"`(\w+)`", found[1])) == set(GATES) - OVERRIDABLE


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
