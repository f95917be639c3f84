"""The language of the programs that we start."""

from __future__ import annotations

import pytest

from compose.local.language import in_english


@pytest.mark.parametrize(
    ("given", "characters"),
    [
        ({"LC_ALL": "de_DE.UTF-8", "LANG": "fr_FR.UTF-8"}, "de_DE.UTF-8"),
        ({"LC_CTYPE": "de_DE.UTF-8", "LANG": "fr_FR.UTF-8"}, "de_DE.UTF-8"),
        ({"LANG": "fr_FR.UTF-8"}, "fr_FR.UTF-8"),
        ({}, "C"),
    ],
)
def test_messages_are_in_english_and_characters_stay(given: dict[str, str], characters) -> None:
    made = in_english({**given, "HOME": "/größe"})
    assert "LC_ALL" not in made
    assert made["LC_MESSAGES"] == "C"
    assert made["LC_CTYPE"] == characters
    assert made["HOME"] == "/größe"
