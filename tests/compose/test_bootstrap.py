"""The environment can be made wherever the project lies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from compose import bootstrap
from tests.support.other_user import OTHER, folder_for_both, run_as_other_user

_PROGRAM = "compose/bootstrap.py"

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What pip was called with: its variables, and its arguments under an empty name."""
    given: dict[str, Any] = {}

    def run(command, *, env, check):
        given.update(env)
        given[""] = command
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    return given


def _editable(command: list[str]) -> list[str]:
    return [there for option, there in pairwise(command) if option == "--editable"]


def test_the_lab_is_installed_where_a_target_needs_it_and_not_for_make_up(pip):
    up = re.search(r"^env:.*?bootstrap\.py ([a-z ]*)", MAKEFILE, re.MULTILINE | re.DOTALL)
    bootstrap.install(set(up.group(1).split()))
    assert _editable(pip[""])[1:] == [str(bootstrap.ROOT / "clients/python")]
    for extra in ("lab", "bench", "dev"):
        bootstrap.install({extra})
        assert str(bootstrap.ROOT / "lab") in _editable(pip[""])
    for target in ("rehearse", "soak"):
        assert f"\n{target}: EXTRA = lab\n" in MAKEFILE


def test_pip_is_given_the_pins_of_a_folder_with_spaces_in_its_name(tmp_path, monkeypatch, pip):
    """It takes a variable for a list, cut at spaces."""
    root = tmp_path / "my disk"
    root.mkdir()
    shutil.copy(bootstrap.ROOT / "pyproject.toml", root)
    monkeypatch.setattr(bootstrap, "ROOT", root)
    bootstrap.install({"local"})
    given = pip
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


@pytest.fixture
def project() -> Iterator[Path]:
    """A checkout in which nothing is installed yet: what bootstrap reads of it."""
    with folder_for_both() as folder:
        root = folder / "checkout"
        (root / "compose").mkdir(parents=True)
        shutil.copy(bootstrap.__file__, root / _PROGRAM)
        for name in bootstrap.INPUTS:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bootstrap.ROOT / name, root / name)
        yield root


def _installed_by_another(project: Path) -> subprocess.CompletedProcess[str]:
    program = str(project / _PROGRAM)
    return run_as_other_user(
        f"import runpy; runpy.run_path({program!r})",
        f"runpy.run_path({program!r}, run_name='__main__')",
        program,
        "local",
        cwd=project,
    )


def test_ctrl_c_during_the_installation_is_one_sentence(project: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, project / _PROGRAM, "local"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "Making .venv (once) ...\n"
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert said.splitlines()[-1] == ("Interrupted; the same command begins the installation again.")
    assert "Traceback" not in said


def test_a_checkout_of_another_user_is_named_as_that(project: Path) -> None:
    ended = _installed_by_another(project)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: {project} belongs to another user (root); run this as root, or copy the project "
        "to a folder of your own\n"
    )
    assert not (project / ".venv").exists()


def test_a_checkout_that_its_owner_protected_says_so(project: Path) -> None:
    shutil.chown(project, OTHER)
    project.chmod(0o555)
    ended = _installed_by_another(project)
    assert ended.returncode == 1
    assert "its permissions forbid it (chmod u+rwx" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_an_environment_that_is_a_link_is_not_emptied(project: Path, tmp_path: Path) -> None:
    """With ``--clear``, venv empties the folder that the link leads to, and then gives up."""
    other = tmp_path / "environment of another project"
    other.mkdir()
    (other / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (project / ".venv").symlink_to(other)
    ran = subprocess.run(
        [sys.executable, _PROGRAM, "local"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert f"{project / '.venv'} is a link to {other}" in ran.stderr
    assert "remove the link" in ran.stderr
    assert [path.name for path in other.iterdir()] == ["pyvenv.cfg"]


NEWER, PLAIN, OPTIMISED = "/a/python3.13", "/a/python3.12", "/b/python3.11"


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Return which Python ``bootstrap`` restarts with; ``None``: it keeps its own, a plain one.

    ``NEWER`` does not run.
    """

    def replace(path: str, argv: list[str]) -> None:
        assert argv == [path, _PROGRAM, "local"]
        raise _ReplacedError(path)

    def restarted(*others: str, version: tuple[int, int] = (3, 12), named: str = "") -> str | None:
        monkeypatch.setattr(bootstrap.sys, "version_info", (*version, 2, "final", 0))
        monkeypatch.setattr(bootstrap.sys, "argv", [_PROGRAM, "local"])
        monkeypatch.setattr(bootstrap, "others", lambda: list(others))
        works = {(PLAIN, ""), (OPTIMISED, ""), (OPTIMISED, bootstrap.IS_OPTIMISED)}
        monkeypatch.setattr(bootstrap, "runs", lambda path, program: (path, program) in works)
        monkeypatch.setattr(bootstrap.os, "execv", replace)
        monkeypatch.delenv("PYTHON", raising=False)
        if named:
            monkeypatch.setenv("PYTHON", named)
        try:
            bootstrap.use_the_best_python()
        except _ReplacedError as replaced:
            return str(replaced)
        return None

    return restarted


class _ReplacedError(Exception):
    """The process would be another program now."""


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_a_python_that_is_not_taken_gives_way_to_one_that_is(
    version: tuple[int, int], python: Callable[..., str | None]
) -> None:
    assert python(NEWER, PLAIN, version=version) == PLAIN
    assert python(NEWER, PLAIN, OPTIMISED, version=version, named="python3") == OPTIMISED


def test_a_plain_python_gives_way_to_an_optimised_one(python: Callable[..., str | None]) -> None:
    assert python(NEWER, PLAIN, OPTIMISED) == OPTIMISED
    assert python(NEWER, PLAIN) is None
    assert python(NEWER, PLAIN, OPTIMISED, named="/a/python3.12") is None


@pytest.mark.parametrize(
    ("version", "why"),
    [((3, 10), "is 3.10."), ((3, 15), "is 3.15: some dependencies have no packages for it yet.")],
)
def test_without_one_that_is_taken_the_error_has_the_remedy(
    version: tuple[int, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (*version, 2, "final", 0))
    monkeypatch.setattr(bootstrap, "runs", lambda *_: False)
    with pytest.raises(SystemExit) as told:
        bootstrap.use_the_best_python()
    said = str(told.value)
    assert said.startswith(f"error: Crossfade needs Python 3.11 to 3.14, and {sys.executable} ")
    assert why in said
    assert "make PYTHON=/path/to/python3.11" in said
