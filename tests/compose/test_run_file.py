"""Commands in another terminal find the ``crossfade up`` of their folder, and no other."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

from compose import console
from compose.local import run_file


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
