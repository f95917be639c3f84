"""The environment can be made wherever the project lies."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from compose import bootstrap


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
