"""Ages that options take, by one rule for all commands."""

from __future__ import annotations

import pytest

from compose.commands.options.age import age_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("3d", 259_200), ("0s", 0)]
)
def test_an_age_is_a_number_and_a_unit(text, seconds):
    assert age_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "1.5h", "-1h", "1w", "1h30m", "1234567s", "٣d"])
def test_anything_else_is_no_age(text):
    assert age_seconds(text) is None
