"""Numbers of things in words."""

from __future__ import annotations

import pytest

from compose.counting import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_one_thing_is_named_in_the_singular(number: int, text: str) -> None:
    assert counted(number, "row") == text


def test_a_word_may_have_a_plural_of_its_own() -> None:
    assert counted(2, "process", "processes") == "2 processes"


def test_a_word_in_sh_has_the_plural_of_english() -> None:
    assert counted(1, "hash") == "1 hash"
    assert counted(7, "hash") == "7 hashes"
