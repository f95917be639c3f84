"""The key that ``crossfade up`` lends to commands in its folder goes to that service alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.local import run_file
from compose.service_address import service

LENT = {
    "DATABASE_URL": "postgresql://localhost/none",
    "PORT": "3007",
    "CROSSFADE_API_KEY": "lent",
}


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (None, "lent"),
        ("http://127.0.0.1:3007", "lent"),
        ("http://localhost:3007/", "lent"),
        ("http://127.0.0.1:3008", ""),
        ("https://messages.example.com", ""),
    ],
)
def test_a_lent_key_goes_to_the_service_that_lent_it_alone(
    url: str | None, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / run_file.DEFAULT_FOLDER
    folder.mkdir()
    run_file.write(folder, LENT)
    monkeypatch.chdir(tmp_path)
    assert service(url).api_key == key
    monkeypatch.setenv("CROSSFADE_API_KEY", "named")
    assert service(url).api_key == "named"
