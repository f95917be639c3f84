"""Commands in another terminal find the ``crossfade up`` of their folder, and no other."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from compose import output as console
from compose.cli import application
from compose.local import run_file
from persistence.errors import Outage


@pytest.fixture(autouse=True)
def a_new_command(monkeypatch):
    """Each test is a command that has not looked yet, and has no database named to it."""
    for name in ("_joined", "_alone", "_told", "_where"):
        monkeypatch.setattr(console, name, [])
    monkeypatch.setattr(console, "_taken", {})
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_it_is_found_while_its_process_is_there_and_read_by_its_owner_alone(tmp_path):
    assert run_file.running_settings(tmp_path) == {}
    run_file.write(tmp_path, {"DATABASE_URL": "postgresql://u:secret@h/d"})
    run_file.write(tmp_path, {"DATABASE_URL": "postgresql://u:secret@h/e"})
    path = tmp_path / "run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run_file.running_settings(tmp_path) == {"DATABASE_URL": "postgresql://u:secret@h/e"}
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    path.write_text(json.dumps({"pid": int(child.stdout), "settings": {"A": "b"}}))
    assert run_file.running_settings(tmp_path) == {}, "its process is gone"
    run_file.write(tmp_path, {})
    assert run_file.is_starting(tmp_path)
    assert run_file.running_settings(tmp_path) == {}
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"born": "1", "settings": {"A": "b"}}))
    assert run_file.running_settings(tmp_path) == {}, "another process has its number"
    assert not run_file.is_starting(tmp_path)
    path.write_text("{")
    assert run_file.running_settings(tmp_path) == {}
    run_file.remove(tmp_path)
    run_file.remove(tmp_path)


def test_what_the_environment_names_goes_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".crossfade"
    folder.mkdir()
    run_file.write(
        folder, {"DATABASE_URL": "postgresql://here/one", "TRANSPORT": "kafka", "REDIS_PORT": "1"}
    )
    monkeypatch.setenv("REDIS_PORT", "7")
    joined = console.client_settings()
    assert (joined.transport.transport, joined.transport.redis_port) == ("kafka", 7)
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/two")
    other = console.client_settings()
    assert other.transport.transport == "redis"
    assert other.persistence.database_url.get_secret_value() == "postgresql://elsewhere/two"


def test_its_own_database_named_again_names_no_other(tmp_path, monkeypatch):
    """`make up` shows the URL for psql; who exports it means the servers beside it too."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".crossfade"
    folder.mkdir()
    run_file.write(folder, {"DATABASE_URL": "postgresql://here/one", "TRANSPORT": "kafka"})
    monkeypatch.setenv("DATABASE_URL", "postgresql://here/one")
    assert console.client_settings().transport.transport == "kafka"


def test_settings_are_shown_as_they_are_in_force_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".crossfade"
    folder.mkdir()
    run_file.write(folder, {"DATABASE_URL": "postgresql://here/one", "TRANSPORT": "kafka"})
    shown = CliRunner().invoke(application(), ["settings", "--json"])
    rows = {row["name"]: row for row in json.loads(shown.stdout)}
    assert (rows["TRANSPORT"]["value"], rows["TRANSPORT"]["source"]) == ("kafka", "crossfade up")
    assert rows["PORT"]["source"] == "default"


def test_one_that_was_joined_and_stopped_is_not_taken_for_what_the_defaults_lead_to(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".crossfade"
    folder.mkdir()
    run_file.write(folder, {"DATABASE_URL": "postgresql://here/one"})
    console.client_settings()
    run_file.remove(folder)
    with pytest.raises(Outage, match="is stopped"):
        console.client_settings()
    run_file.write(folder, {"DATABASE_URL": "postgresql://here/two"})
    again = console.client_settings().persistence.database_url.get_secret_value()
    assert again == "postgresql://here/two"


_COMMANDS = [
    ("status",), ("tail",), ("message", "x"), ("audit",), ("dlq", "list"), ("db", "current"),
    ("db", "upgrade"), ("migrate", "status"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
def test_where_nothing_runs_a_command_refuses_what_the_defaults_lead_to(
    tmp_path, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(application(), arguments)
    assert ended.exit_code == 1
    told = "".join(ended.output.split())
    assert f"error:no'crossfadeup'runsin{tmp_path},andnoserverisnamed:startithere" in told


def test_a_command_that_sends_to_an_api_needs_no_server_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(
        application(),
        ["produce", "x", "--conversation", "c", "--timeout", "0.5", "--url", "http://127.0.0.1:1"],
    )
    assert ended.exit_code == 1
    told = "".join(ended.output.split())
    assert "noserviceanswersathttp://127.0.0.1:1" in told
    assert "noserverisnamed" not in told


def test_where_one_is_starting_a_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".crossfade").mkdir()
    run_file.write(tmp_path / ".crossfade", {})
    with pytest.raises(SystemExit):
        console.client_settings()
    assert "stillstarting" in "".join(capsys.readouterr().err.split())


def test_a_command_says_with_its_error_where_it_looked_and_why(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    async def unreachable() -> None:
        raise Outage("PostgreSQL can't be reached")

    monkeypatch.setenv("REDIS_PORT", "7")
    console.client_settings()
    with pytest.raises(SystemExit) as ended:
        console.run(unreachable)
    assert ended.value.code == 1
    assert f"no'crossfadeup'runsin{tmp_path}" in "".join(capsys.readouterr().err.split())
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://nobody:secret@127.0.0.1:1/none\n")
    console.client_settings()
    with pytest.raises(SystemExit):
        console.run(unreachable)
    told = " ".join(capsys.readouterr().err.split())
    assert "using redis localhost:7/1 (default and environment)," in told
    assert "postgresql://nobody:***@127.0.0.1:1/none (.env)" in told
    assert "runs in" not in told, "another service was named"


def test_a_message_that_could_not_be_looked_for_is_not_called_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_PORT", "1")  # nobody listens there
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    found = CliRunner().invoke(application(), ["message", "some-id"])
    assert found.exit_code == 3
    assert "check DATABASE_URL" in found.output
    assert "no message has" not in found.output
