"""Commands that other packages attach to ``crossfade``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
import typer
from typer.testing import CliRunner

from compose import attached
from compose.cli import application

Attach = Callable[..., None]
inner = typer.Typer(no_args_is_help=True)


@inner.command()
def one() -> None:
    """Say so."""
    typer.echo("one of several")


@inner.command()
def two() -> None:
    """Do nothing."""


def said() -> None:
    """Say so."""
    typer.echo("attached")


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Attach:
    """Have only these entry points: names of commands, with what they lead to in this module."""

    def attach(points: dict[str, str]) -> None:
        found = {
            name: EntryPoint(name, f"{__name__}:{attribute}", "crossfade.commands")
            for name, attribute in points.items()
        }
        monkeypatch.setattr(attached, "_found", lambda: found)

    return attach


def _run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(application(*arguments[:2]), arguments)
    return ended.exit_code, ended.output


def test_a_command_and_a_group_are_attached(attach: Attach) -> None:
    attach({"said": "said", "several": "inner"})
    assert _run("said") == (0, "attached\n")
    assert _run("several", "one") == (0, "one of several\n")
    assert "said" in _run("--help")[1]


def test_one_that_is_missing_says_which_package_has_it(attach: Attach) -> None:
    attach({})
    for command in ("soak", "dev", "migrate rehearse"):
        status, text = _run(*command.split(), "--hours", "2", "--help")
        assert status == 2
        assert f"'crossfade {command}' needs the package crossfade-lab: pip install" in text
    assert "soak" not in _run("--help")[1]
    assert "rehearse" not in _run("migrate", "--help")[1]


def test_one_in_a_group_is_attached_to_this_program_alone(attach: Attach) -> None:
    attach({"migrate.said": "said"})
    assert _run("migrate", "said") == (0, "attached\n")
    attach({})
    assert _run("migrate", "said")[0] == 2


def test_nothing_takes_the_place_of_a_command_that_is_there(attach: Attach) -> None:
    attach({"status": "said", "jobs.list": "said"})
    assert "Say so" not in _run("status", "--help")[1]
    assert "Say so" not in _run("jobs", "list", "--help")[1]


def test_only_what_is_asked_for_is_imported(attach: Attach) -> None:
    attach({"said": "said", "broken": "none_of_this_name"})
    assert _run("said") == (0, "attached\n")
    assert _run("jobs", "--help")[0] == 0
    with pytest.raises(AttributeError):
        _run("broken")
