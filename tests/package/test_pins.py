"""What constraints.txt pins can be installed by the oldest Python that is promised."""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def test_every_pin_takes_the_oldest_python_that_the_project_takes() -> None:
    """A distribution ships one 3.11 for years: Debian 12 has 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = f"{project['requires-python'].removeprefix('>=')}.0"
    wants = {d.metadata["Name"]: d.metadata.get("Requires-Python", "") for d in distributions()}
    refused = {name: wanted for name, wanted in wants.items() if oldest not in SpecifierSet(wanted)}
    assert refused == {}
