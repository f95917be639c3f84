"""The Pythons that are promised are those that can have what constraints.txt pins."""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

from compose import bootstrap

ROOT = Path(__file__).parents[2]


def test_the_packages_of_the_checkout_have_one_version() -> None:
    projects = [
        tomllib.loads((ROOT / name).read_text())["project"]
        for name in bootstrap.INPUTS
        if name.endswith("pyproject.toml")
    ]
    (version,) = {project["version"] for project in projects}
    (python,) = {project["requires-python"] for project in projects}
    assert python
    ours = {project["name"] for project in projects}
    assert len(ours) == 3
    for project in projects:
        extras = project.get("optional-dependencies", {}).values()
        for wanted in [*project["dependencies"], *(one for extra in extras for one in extra)]:
            name, _, pinned = wanted.partition("==")
            assert name not in ours or pinned == version


def test_every_pin_takes_the_oldest_python_that_the_project_takes() -> None:
    """A distribution ships one 3.11 for years: Debian 12 has 3.11.2."""
    oldest = ".".join(map(str, (*bootstrap.AT_LEAST, 0)))
    wants = {d.metadata["Name"]: d.metadata.get("Requires-Python", "") for d in distributions()}
    refused = {name: wanted for name, wanted in wants.items() if oldest not in SpecifierSet(wanted)}
    assert refused == {}


def test_the_same_pythons_are_promised_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least, below = (".".join(map(str, one)) for one in (bootstrap.AT_LEAST, bootstrap.BELOW))
    assert project["requires-python"] == f">={least},<{below}"
    minors = range(bootstrap.AT_LEAST[1], bootstrap.BELOW[1])
    assert sorted(bootstrap.TAKEN) == [f"python3.{minor}" for minor in minors]
    named = "Programming Language :: Python :: 3."
    classified = [it for it in project["classifiers"] if it.startswith(named)]
    assert classified == [f"{named}{minor}" for minor in minors]
    words = f"Python {least} to 3.{minors[-1]}"
    for page in ("README.md", "docs/tutorial.md", "Makefile", "compose/bootstrap.py"):
        assert words in (ROOT / page).read_text(), page
