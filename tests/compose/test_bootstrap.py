"""The environment can be made wherever the project lies."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from compose import bootstrap

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


def test_pip_is_given_the_pins_of_a_folder_with_spaces_in_its_name(tmp_path, monkeypatch):
    """It takes a variable for a list, cut at spaces."""
    root = tmp_path / "my disk"
    given = {}

    def run(_command, *, env, check):
        given.update(env)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    bootstrap.install({"local"})
    for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        (only,) = given[name].split()
        assert Path(unquote(urlsplit(only).path)) == root / "constraints.txt"


def test_make_up_after_make_test_installs_nothing():
    """``dev`` contains ``tracing``: what the second target needs is there, also without network."""
    test = re.search(r"^env-dev:.*?bootstrap\.py ([^\n]*)", MAKEFILE, re.MULTILINE | re.DOTALL)
    up = re.search(r"^env:.*?bootstrap\.py ([^\n]*)", MAKEFILE, re.MULTILINE | re.DOTALL)
    has, needs = (bootstrap.wanted(found.group(1).split()) for found in (test, up))
    assert bootstrap.is_enough(has, needs)
    assert not bootstrap.is_enough(needs, has)


@pytest.mark.parametrize(
    ("requirement", "contained"),
    [
        ("crossfade[tracing]", {"dev", "tracing"}),
        ("crossfade[tracing, local]>=0.1", {"dev", "tracing", "local"}),
        ("crossfade-plugin[tracing]", {"dev"}),
    ],
)
def test_an_extra_contains_what_it_names_of_this_project(
    requirement, contained, tmp_path, monkeypatch
):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "crossfade"\n[project.optional-dependencies]\n'
        f'tracing = ["crossfade[dev]"]\nlocal = []\ndev = ["other[x]>=1", "{requirement}"]\n'
    )
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    assert bootstrap.with_contained(["dev"]) == contained
