"""The table of promises is true: every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TABLE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.findall(r"\[(test_\w+)\]\(\.\./([\w/]+\.py)\)", TABLE)


def test_every_test_named_in_the_table_exists() -> None:
    assert NAMED
    missing = [
        f"{path}::{name}"
        for name, path in NAMED
        if not re.search(rf"def {name}\(", (ROOT / path).read_text())
    ]
    assert not missing


def test_every_promise_of_the_main_job_is_in_the_table() -> None:
    assert re.findall(r"^## (\d+)\.", TABLE, re.MULTILINE) == [
        str(number) for number in range(1, 12)
    ]
